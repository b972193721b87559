package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
)

// Flip turns one bit of the file, at a place that the seed decides, and says
// what it did.
func Flip(path string, seed uint64) (string, error) {
	var did string
	err := damage(path, func(f *os.File, size int64) error {
		random := rand.New(rand.NewPCG(seed, uint64(size)))
		at, bit := random.Int64N(size), random.IntN(8)
		did = fmt.Sprintf("bit %d of byte %d of %d flipped in %s", bit, at, size, path)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return err
		}
		b[0] ^= 1 << bit
		_, err := f.WriteAt(b[:], at)
		return err
	})
	return did, err
}

// Truncate cuts the file off at a place that the seed decides, and says what
// it did.
func Truncate(path string, seed uint64) (string, error) {
	var did string
	err := damage(path, func(f *os.File, size int64) error {
		left := rand.New(rand.NewPCG(seed, uint64(size))).Int64N(size)
		did = fmt.Sprintf("%d of %d bytes left of %s", left, size, path)
		return f.Truncate(left)
	})
	return did, err
}

// damage makes sure that the damage is on the disk, whatever comes next.
func damage(path string, do func(f *os.File, size int64) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("damage a file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("damage a file: %w", err)
	}
	if info.Size() == 0 {
		return fmt.Errorf("damage %s: it is empty", path)
	}
	if err := errors.Join(do(f, info.Size()), f.Sync()); err != nil {
		return fmt.Errorf("damage %s: %w", path, err)
	}
	return nil
}

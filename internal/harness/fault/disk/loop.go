package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// loopMajor is the device number of loop devices, see loop(4).
const loopMajor = 7

// attach gives the image a loop device. The kernel takes it away when the last
// user is gone: the returned file or a mount.
func attach(image *os.File) (int, *os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("find a loop device: %w: %w", ErrUnavailable, err)
	}
	defer control.Close()
	for range 100 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, nil, fmt.Errorf("find a loop device: %w: %w", ErrUnavailable, err)
		}
		device, err := attachTo(number, image)
		if errors.Is(err, unix.EBUSY) {
			continue // somebody else was faster
		}
		return number, device, err
	}
	return 0, nil, fmt.Errorf("find a loop device: %w", unix.EBUSY)
}

func attachTo(number int, image *os.File) (*os.File, error) {
	name := fmt.Sprintf("/dev/loop%d", number)
	// Where nobody makes device files for new devices, do it.
	err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(number))))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make %s: %w: %w", name, ErrUnavailable, err)
	}
	device, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open a loop device: %w: %w", ErrUnavailable, err)
	}
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		device.Close()
		return nil, fmt.Errorf("configure %s: %w", name, err)
	}
	return device, nil
}

// detached fails as long as the loop device has an image.
func detached(number int) error {
	file, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/loop/backing_file", number))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at loop%d: %w", number, err)
	}
	return fmt.Errorf("loop%d still has %s", number, file)
}

package replicas

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
	"unsafe"

	broker "github.com/nats-io/nats-server/v2/server"
)

// The broker keeps each block of a store in memory until 10 s after its last use (nats-server v2.15.2, filestore.go,
// defaultCacheBufferExpiration), and has no option for it. With every write synced these caches are out of the garbage
// collector's reach, so that messages of 1 MB at 30 a second take 300 MB in a topic and as much again in its Raft log.
// Blocks that are full are not written any more; who reads them a little later finds them in the kernel's cache. Their
// caches are given up soon. The block that is being written keeps its cache: the broker would have to read it again at
// the next write.
const (
	fullBlockCache = 500 * time.Millisecond
	cacheLookEvery = 200 * time.Millisecond
)

// These give names to methods of the broker's, as rafttimers.go does to variables. Where the linker or reflect does not
// find something any more, TestFullBlocksGiveUpTheirCaches does not pass.

//go:linkname accountStreams github.com/nats-io/nats-server/v2/server.(*Account).streams
func accountStreams(*broker.Account) []unsafe.Pointer

//go:linkname streamStore github.com/nats-io/nats-server/v2/server.(*stream).Store
func streamStore(unsafe.Pointer) broker.StreamStore

//go:linkname streamNode github.com/nats-io/nats-server/v2/server.(*stream).raftNode
func streamNode(unsafe.Pointer) broker.RaftNode

// WatchCaches releases the caches of full blocks of all streams soon, until ctx ends.
func (l *Local) WatchCaches(ctx context.Context) {
	tick := time.NewTicker(cacheLookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.shortenCaches(); err != nil {
			l.log.Warn("cannot shorten the broker's block caches; full blocks stay in memory for 10 s", "error", err)
			return
		}
	}
}

// errLayout says that the broker's types are not as they were.
var errLayout = errors.New("the broker's types have changed")

func (l *Local) shortenCaches() (err error) {
	account, err := l.broker.LookupAccount(l.account)
	if err != nil {
		return err
	}
	defer func() { // reflect panics at what it does not find.
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errLayout, r)
		}
	}()
	for _, stream := range accountStreams(account) {
		if store := reflect.ValueOf(streamStore(stream)); store.IsValid() {
			shortenStore(store)
		}
		if node := reflect.ValueOf(streamNode(stream)); node.IsValid() {
			shortenStore(node.Elem().FieldByName("wal").Elem())
		}
	}
	return nil
}

// shortenStore takes a *fileStore. The full blocks that are new since the last look are the last ones before the block
// that is being written.
func shortenStore(store reflect.Value) {
	if store.Type().Elem().Name() != "fileStore" {
		return
	}
	mu := field[sync.RWMutex](store.Elem(), "mu")
	mu.RLock()
	defer mu.RUnlock()
	blocks := store.Elem().FieldByName("blks")
	for i := blocks.Len() - 2; i >= 0; i-- {
		if !shortenBlock(blocks.Index(i).Elem()) {
			return
		}
	}
}

// shortenBlock reports whether the block was not shortened before.
func shortenBlock(block reflect.Value) bool {
	mu := field[sync.RWMutex](block, "mu")
	mu.Lock()
	defer mu.Unlock()
	expire := field[time.Duration](block, "cexp")
	if *expire == fullBlockCache {
		return false
	}
	*expire = fullBlockCache
	if timer := *field[*time.Timer](block, "ctmr"); timer != nil {
		timer.Reset(fullBlockCache)
	}
	return true
}

// field is a field of one of the broker's structs, which must have this type.
func field[T any](of reflect.Value, name string) *T {
	f := of.FieldByName(name)
	if want := reflect.TypeFor[T](); !f.IsValid() || f.Type() != want {
		panic(fmt.Sprintf("%s has no field %s of type %s", of.Type(), name, want))
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr()))
}

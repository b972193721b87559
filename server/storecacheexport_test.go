package server

import (
	"reflect"
	"sync"
	"time"
	"unsafe"

	broker "github.com/nats-io/nats-server/v2/server"
)

// As in replicas/storecache.go.

//go:linkname streamsOf github.com/nats-io/nats-server/v2/server.(*Account).streams
func streamsOf(*broker.Account) []unsafe.Pointer

//go:linkname storeOf github.com/nats-io/nats-server/v2/server.(*stream).Store
func storeOf(unsafe.Pointer) broker.StreamStore

//go:linkname nodeOf github.com/nats-io/nats-server/v2/server.(*stream).raftNode
func nodeOf(unsafe.Pointer) broker.RaftNode

// fieldOf is a field of one of the broker's structs.
func fieldOf[T any](of reflect.Value, name string) *T {
	return (*T)(unsafe.Pointer(of.FieldByName(name).UnsafeAddr()))
}

// FullBlock is a full block of a stream's store or Raft log.
type FullBlock struct {
	Expire time.Duration
	Cached bool // out of the garbage collector's reach
}

// FullBlocks are those of all streams.
func (s *Server) FullBlocks() (all []FullBlock) {
	account, err := s.broker.LookupAccount(Account)
	if err != nil {
		panic(err)
	}
	for _, stream := range streamsOf(account) {
		all = append(all, fullBlocks(reflect.ValueOf(storeOf(stream)))...)
		if node := reflect.ValueOf(nodeOf(stream)); node.IsValid() {
			all = append(all, fullBlocks(node.Elem().FieldByName("wal").Elem())...)
		}
	}
	return all
}

func fullBlocks(store reflect.Value) (all []FullBlock) {
	mu := fieldOf[sync.RWMutex](store.Elem(), "mu")
	mu.RLock()
	defer mu.RUnlock()
	blocks := store.Elem().FieldByName("blks")
	for i := range blocks.Len() - 1 {
		all = append(all, fullBlock(blocks.Index(i).Elem()))
	}
	return all
}

func fullBlock(block reflect.Value) FullBlock {
	mu := fieldOf[sync.RWMutex](block, "mu")
	mu.Lock()
	defer mu.Unlock()
	strong := *(*unsafe.Pointer)(unsafe.Pointer(block.FieldByName("ecache").FieldByName("strong").UnsafeAddr()))
	return FullBlock{Expire: *fieldOf[time.Duration](block, "cexp"), Cached: strong != nil ||
		!block.FieldByName("cache").IsNil()}
}

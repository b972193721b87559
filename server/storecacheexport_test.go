package server

import (
	"reflect"
	"sync"
	"time"
	"unsafe"
)

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
	for _, stream := range accountStreams(account) {
		all = append(all, fullBlocks(reflect.ValueOf(streamStore(stream)))...)
		if node := reflect.ValueOf(streamNode(stream)); node.IsValid() {
			all = append(all, fullBlocks(node.Elem().FieldByName("wal").Elem())...)
		}
	}
	return all
}

func fullBlocks(store reflect.Value) (all []FullBlock) {
	mu := field[sync.RWMutex](store.Elem(), "mu")
	mu.RLock()
	defer mu.RUnlock()
	blocks := store.Elem().FieldByName("blks")
	for i := range blocks.Len() - 1 {
		all = append(all, fullBlock(blocks.Index(i).Elem()))
	}
	return all
}

func fullBlock(block reflect.Value) FullBlock {
	mu := field[sync.RWMutex](block, "mu")
	mu.Lock()
	defer mu.Unlock()
	strong := *(*unsafe.Pointer)(unsafe.Pointer(block.FieldByName("ecache").FieldByName("strong").UnsafeAddr()))
	return FullBlock{Expire: *field[time.Duration](block, "cexp"), Cached: strong != nil || !block.FieldByName("cache").IsNil()}
}

package worker

import (
	"bufio"
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// benchCallLanes is how many partitions have a call under way.
const benchCallLanes = 16

// BenchmarkCall is what a call takes of this process, which is the node's part: handlers are other processes, or as good
// as nothing.
func BenchmarkCall(b *testing.B) {
	b.Run("subprocess", func(b *testing.B) { benchCalls(b, benchSubprocess(b)) })
	b.Run("http", func(b *testing.B) { benchCalls(b, benchHTTP(b)) })
	b.Run("exec", func(b *testing.B) {
		h, err := NewExec(ExecConfig{Command: []string{"/bin/true"}}, HandlerEnv{Logger: hclog.NewNullLogger()})
		if err != nil {
			b.Fatal(err)
		}
		benchCalls(b, h)
	})
}

func benchCalls(b *testing.B, h Handler) {
	data := "ok " + strings.Repeat("x", 253)
	b.ReportAllocs()
	begun := cpuTime(b)
	b.ResetTimer()
	var lanes sync.WaitGroup
	for p := range benchCallLanes {
		lanes.Go(func() {
			for i := range (b.N + benchCallLanes - 1) / benchCallLanes {
				ctx := newCallContext(b.Context(), time.Now().Add(time.Minute))
				if r := callUntilReady(ctx, h, testMessage(p, uint64(i+1), data)); r.Status != OK {
					b.Errorf("%+v", r)
				}
				ctx.end()
			}
		})
	}
	lanes.Wait()
	b.ReportMetric(float64((cpuTime(b)-begun).Nanoseconds())/float64(b.N), "cpu-ns/call")
}

func benchSubprocess(b *testing.B) Handler {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s, err := NewSubprocess(SubprocessConfig{
		Command: []string{exe}, Processes: 1, Env: map[string]string{testChild: "plain"},
	}, HandlerEnv{Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) }) // It returns nil.
	b.Cleanup(func() { cancel(); running.Wait() })
	for p := range benchCallLanes {
		if r := callUntilReady(ctx, s, testMessage(p, 1, "ok")); r.Status != OK {
			b.Fatalf("%+v", r)
		}
	}
	return s
}

// benchHTTP is a handler with a service that only knows where a request ends.
func benchHTTP(b *testing.B) Handler {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(c)
		}
	}()
	h, err := NewHTTP(HTTPConfig{URL: "http://" + l.Addr().String() + "/"}, HandlerEnv{App: "leasehold/test"})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

// answerAll answers requests with payloads of 256 bytes until the connection ends.
func answerAll(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := in.Discard(256); err != nil {
			return
		}
		if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return
		}
	}
}

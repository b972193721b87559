package subprocess

import (
	"bufio"
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/exec"
	"leasehold/worker/handler/webhook"
	"leasehold/worker/workertest"

	"github.com/hashicorp/go-hclog"
)

// benchCallLanes is how many partitions have a call under way.
const benchCallLanes = 16

// BenchmarkCall is what a call takes of this process, which is the node's part: handlers are other processes, or as
// good as nothing.
func BenchmarkCall(b *testing.B) {
	b.Run("subprocess", func(b *testing.B) { benchCalls(b, benchSubprocess(b)) })
	b.Run("http", func(b *testing.B) { benchCalls(b, benchHTTP(b)) })
	b.Run("exec", func(b *testing.B) {
		h, err := exec.New(exec.Config{Command: []string{"/bin/true"}}, handler.Env{Logger: hclog.NewNullLogger()})
		if err != nil {
			b.Fatal(err)
		}
		benchCalls(b, h)
	})
}

func benchCalls(b *testing.B, h handler.Handler) {
	data := "ok " + strings.Repeat("x", 253)
	b.ReportAllocs()
	begun := workertest.CPUTime(b)
	b.ResetTimer()
	var lanes sync.WaitGroup
	for p := range benchCallLanes {
		lanes.Go(func() {
			for i := range (b.N + benchCallLanes - 1) / benchCallLanes {
				ctx := handler.NewCallContext(b.Context(), time.Now().Add(time.Minute))
				if r := callUntilReady(ctx, h, workertest.Message(p, uint64(i+1), data)); r.Status != handler.OK {
					b.Errorf("%+v", r)
				}
				ctx.End()
			}
		})
	}
	lanes.Wait()
	b.ReportMetric(float64((workertest.CPUTime(b)-begun).Nanoseconds())/float64(b.N), "cpu-ns/call")
}

func benchSubprocess(b *testing.B) handler.Handler {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Config{
		Command: []string{exe}, Processes: 1, Env: map[string]string{testChild: "plain"},
	}, handler.Env{Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) }) // It returns nil.
	b.Cleanup(func() { cancel(); running.Wait() })
	for p := range benchCallLanes {
		if r := callUntilReady(ctx, s, workertest.Message(p, 1, "ok")); r.Status != handler.OK {
			b.Fatalf("%+v", r)
		}
	}
	return s
}

// benchHTTP is a handler with a service that only knows where a request ends.
func benchHTTP(b *testing.B) handler.Handler {
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
	h, err := webhook.New(webhook.Config{URL: "http://" + l.Addr().String() + "/"}, handler.Env{App: "leasehold/test"})
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

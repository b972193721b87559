package attack

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"leasehold/internal/harness/scenario"
)

// How heavy floods are, times -attacks.
const (
	guessers    = 64                      // Connections with wrong passwords at a time.
	floodTime   = 1500 * time.Millisecond // Of each flood.
	floodWidth  = 4                       // Connections of a flood.
	manySubs    = 20_000
	manySilent  = 2000
	manyHTTP    = 1200
	manyClients = 1100
	addresses   = 8 // Loopback addresses that take part.
)

// What the node promises to bound: connections before their login (server/ingress), clients (max_connections), and
// connections of the HTTP port (internal/api), with those that are only told that there is no room.
const (
	maxSilent  = 4096
	maxClients = 1000
	maxHTTP    = 512 + 32
)

// spread is one of the loopback addresses that floods come from.
func spread(i int) string { return fmt.Sprintf("127.0.0.%d", 2+i%addresses) }

// login is what the node says to somebody who logs in from an address.
func (a *arena) login(from, user, password string) string {
	w, err := a.dial(from)
	if err != nil {
		return err.Error()
	}
	defer w.close()
	w.say(fmt.Sprintf("CONNECT {\"verbose\":false,\"user\":%q,\"pass\":%q}\r\nPING\r\n", user, password))
	return w.hear(true)
}

// wrongPasswords: passwords guessed from many connections and addresses (H1). Who has the right one gets in.
func (a *arena) wrongPasswords() {
	a.note("a right password", a.login("", "press", passwordOf("press")), "^pong")
	var tries, let atomic.Int64
	flood, stop := &sync.WaitGroup{}, make(chan struct{})
	for i := range guessers {
		users := []string{"press", "scanner", "nobody"}
		flood.Go(func() {
			for n := 0; !isOver(stop); n++ {
				heard := a.login(spread(i), users[n%len(users)], fmt.Sprintf("wrong-%d-%d", i, n))
				tries.Add(1)
				if heard == "pong" {
					let.Add(1)
				}
			}
		})
	}
	timer := time.NewTimer(floodTime * time.Duration(2**attackFlag))
	a.note("a right password for the first time, from an address of its own",
		a.login("127.0.0.100", "scanner", passwordOf("scanner")), "^pong")
	for i := range 3 {
		a.note(fmt.Sprintf("a password that was right before, from a flooding address, %d", i),
			a.login(spread(i), "press", passwordOf("press")), "^pong")
		a.send(probe{"a message without credentials", pub("events.k", "200"), stored})
	}
	<-timer.C
	close(stop)
	flood.Wait()
	a.note("a right password for the first time, from a flooding address, afterwards", a.insist(spread(1), "labeler"),
		"^let in")
	a.note(fmt.Sprintf("%d wrong passwords of %d connections from %d addresses", tries.Load(), guessers, addresses),
		fmt.Sprintf("%d let in", let.Load()), "^0 let in")
}

// insist logs in until it is let in.
func (a *arena) insist(from, user string) string {
	heard := ""
	for i, until := 1, time.Now().Add(answerLimit); time.Now().Before(until); i++ {
		if heard = a.login(from, user, passwordOf(user)); heard == "pong" {
			return fmt.Sprintf("let in at try %d", i)
		}
	}
	return heard
}

func isOver(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// floods: messages as fast as they go (H2), of clients that want answers and read them, want them and read nothing, and
// want none.
func (a *arena) floods() {
	for _, size := range []int{100, 64 << 10, 1 << 20} {
		a.flood(fmt.Sprintf("messages of %d bytes", size), func(i int) string {
			m := quietly("bulk.k", ks(size))
			if i%2 == 0 {
				m = pub("bulk.k", ks(size))
			}
			return strings.Repeat(m, max(1, (64<<10)/size))
		})
	}
	a.flood("messages of 30,000 bytes of headers", func(int) string {
		return hpub("bulk.k", block("X: "+ks(30_000)), "x")
	})
	a.flood("messages that are refused", func(int) string { return strings.Repeat(pub("bulk.*", ""), 1000) })
	a.flood("messages without permission", func(int) string { return strings.Repeat(quietly("nobodys.topic", ""), 1000) })
	a.flood("pings", func(int) string { return strings.Repeat("PING\r\n", 10_000) })
	a.flood("answers to 1,000 subscriptions", func(int) string {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "SUB _INBOX.> %d\r\n", i+10)
		}
		return b.String() + strings.Repeat(pub("bulk.k", "x"), 1000)
	})
}

// flood sends over a few connections, half of which are read, and has another user publish meanwhile.
func (a *arena) flood(name string, chunk func(i int) string) {
	a.T.Helper()
	before := a.peak()
	a.forgetPeak()
	defer func() { a.most = max(a.most, before, a.peak()) }()
	begun, stop, all := time.Now(), make(chan struct{}), &sync.WaitGroup{}
	var sent atomic.Int64
	for i := range floodWidth {
		w, err := a.dial("")
		if err != nil {
			a.T.Fatal(err)
		}
		w.say(anonymous + subscribe)
		_ = w.conn.SetDeadline(time.Time{}) // Fails only if it is closed.
		if i < floodWidth/2 {
			all.Go(func() { _, _ = io.Copy(io.Discard, w.in) }) // Until it is closed.
		}
		all.Go(func() { sent.Add(w.pour(chunk(i), stop)) })
		time.AfterFunc(floodTime*time.Duration(*attackFlag)+answerLimit, w.close)
		defer w.close()
	}
	good, answered := a.beside(floodTime * time.Duration(*attackFlag))
	a.note("beside "+name, fmt.Sprintf("%s of %d", answered, good), "^stored")
	close(stop)
	all.Wait()
	a.rows = append(a.rows, attackRow{mode: a.mode, id: a.id, sent: name,
		answered: fmt.Sprintf("%d MB taken, peak %d MiB, %s", sent.Load()/1e6, a.peak(), scenario.Short(time.Since(begun)))})
}

// pour writes the same again and again until it is told to stop or the connection ends, and returns how many bytes were
// taken.
func (w *wire) pour(chunk string, stop <-chan struct{}) (taken int64) {
	b := []byte(chunk)
	go func() { <-stop; w.close() }()
	for {
		n, err := w.conn.Write(b)
		taken += int64(n)
		if err != nil {
			return taken
		}
	}
}

// beside publishes as another user for a while, at least once, and returns how often and the last answer, or the first
// bad one.
func (a *arena) beside(d time.Duration) (n int, answered string) {
	w, err := a.dial("127.0.0.100")
	if err != nil {
		return 0, err.Error()
	}
	defer w.close()
	w.say(fmt.Sprintf("CONNECT {\"headers\":true,\"verbose\":false,\"user\":\"press\",\"pass\":%q}\r\n",
		passwordOf("press")) + subscribe)
	for until := time.Now().Add(d); ; n++ {
		if n > 0 && time.Now().After(until) {
			return n, answered
		}
		w.say(pub("events.k", "200"))
		if answered = w.hear(false); answered != "stored" {
			return n, answered
		}
	}
}

// connections: connections and subscriptions without end (M5).
func (a *arena) connections() {
	a.note(fmt.Sprintf("%d subscriptions of a connection", manySubs**attackFlag), a.subscribeAll(manySubs**attackFlag),
		"maximum subscriptions")
	a.hold("connections that say nothing", manySilent, maxSilent, func(i int) (net.Conn, error) { return a.silent(i, "") })
	a.hold("connections that begin a handshake", manySilent, maxSilent, func(i int) (net.Conn, error) {
		return a.silent(i, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	})
	a.hold("connections that begin to log in", manySilent, maxSilent, func(i int) (net.Conn, error) {
		return a.silent(i, "CONNECT {\"user\":\"press")
	})
	a.hold("clients", manyClients, maxClients, func(i int) (net.Conn, error) {
		w, err := a.dial(spread(i))
		if err != nil {
			return nil, err
		}
		w.say(anonymous + "PING\r\n")
		if heard := w.hear(true); heard != "pong" {
			w.close()
			return nil, fmt.Errorf("%s", heard)
		}
		return w.conn, nil
	})
	a.hold("idle HTTP connections", manyHTTP, maxHTTP, a.idleHTTP)
}

func (a *arena) subscribeAll(n int) string {
	w, err := a.dial("")
	if err != nil {
		return err.Error()
	}
	defer w.close()
	w.say(anonymous)
	go func() {
		for i := range n {
			w.say(fmt.Sprintf("SUB _INBOX.attack.%d.%s %d\r\n", i, ks(20), i))
		}
		w.say("PING\r\n")
	}()
	first, refusals := "", 0
	for {
		heard := w.hear(true)
		switch {
		case strings.HasPrefix(heard, "-ERR"):
			first, refusals = heard, refusals+1
			continue
		case heard != "pong":
			return heard
		}
		return fmt.Sprintf("%d times %s", refusals, first)
	}
}

// silent connects and says the beginning of something.
func (a *arena) silent(i int, beginning string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerLimit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(spread(i))}}
	conn, err := d.Dial("tcp", a.address())
	if err == nil {
		_, _ = io.WriteString(conn, beginning) // It may be closed already.
	}
	return conn, err
}

// idleHTTP connects to the port without a token and asks a question.
func (a *arena) idleHTTP(int) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", a.node.Host.Address, a.node.Ports.HTTP), answerLimit)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	return conn, err
}

// hold makes many connections, holds them, and wants the node to let others in meanwhile. At most so many may stay
// open.
func (a *arena) hold(name string, n, most int, connect func(i int) (net.Conn, error)) {
	a.T.Helper()
	n *= *attackFlag
	var mu sync.Mutex
	var conns []net.Conn
	refusals := 0
	var all sync.WaitGroup
	for dialer := range 16 {
		all.Go(func() {
			for i := dialer; i < n; i += 16 {
				conn, err := connect(i)
				mu.Lock()
				if err != nil {
					refusals++
				} else {
					conns = append(conns, conn)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	if name != "clients" { // Who has logged in holds its place.
		a.note("a user beside "+name, a.login("127.0.0.100", "press", passwordOf("press")), "^pong")
	}
	if err := a.node.Ready(); err != nil {
		a.T.Errorf("%s %s: beside %d %s: %v", a.mode, a.id, n, name, err)
	}
	open := a.stillOpen(conns)
	a.rows = append(a.rows, attackRow{mode: a.mode, id: a.id, sent: fmt.Sprintf("%d %s", n, name),
		answered: fmt.Sprintf("%d open, %d refused", open, refusals)})
	if open > most {
		a.T.Errorf("%s %s: %d of %d %s are open", a.mode, a.id, open, n, name)
	}
}

// stillOpen is how many of the connections the node has not closed.
func (a *arena) stillOpen(conns []net.Conn) (open int) {
	b := make([]byte, 4096)
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // Fails only if it is closed.
		for {
			_, err := conn.Read(b)
			if err == nil {
				continue
			}
			if howEnded(err) == "no answer" {
				open++
			}
			break
		}
	}
	return open
}

package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/config"
)

// ownPortsTimeout bounds the question to the node's own agent.
const ownPortsTimeout = 3 * time.Second

// knowOwnPorts finds who holds the ports that are taken. This node's own agent may: then all is well.
func knowOwnPorts(ctx context.Context, c *config.Config, checks []config.Check) []config.Check {
	if !slices.ContainsFunc(checks, func(check config.Check) bool { return check.Taken != "" }) {
		return checks
	}
	ctx, cancel := context.WithTimeout(ctx, ownPortsTimeout)
	defer cancel()
	s, err := api.NewClient(c.SocketPath()).Status(ctx)
	own := err == nil && s.Node == c.Node.Name && s.Cluster == c.Identity().Cluster
	for i, check := range checks {
		switch {
		case check.Taken == "":
		case own && slices.ContainsFunc(s.Listen, func(address string) bool { return sameAddress(address, check.Taken) }):
			checks[i].OK, checks[i].Detail = true, check.Taken+", held by this node's own agent"
		default:
			checks[i].Detail = check.Taken + " is in use by " + holderOf(check.Taken) + ": stop that, or set another address"
		}
	}
	return checks
}

func sameAddress(a, b string) bool {
	x, err1 := net.ResolveTCPAddr("tcp", a)
	y, err2 := net.ResolveTCPAddr("tcp", b)
	return a == b || err1 == nil && err2 == nil && x.IP.Equal(y.IP) && x.Port == y.Port
}

// holderOf names the process that listens at an address, as far as this user may see it.
func holderOf(address string) string {
	inodes := listeningInodes(address)
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // None of other users, unless root asks.
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !slices.Contains(inodes, target) {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // It may have ended just now.
		return fmt.Sprintf("%s (pid %s)", bytes.TrimSpace(name), pid)
	}
	return "another process (`ss -ltnp` as root shows it)"
}

// listeningInodes are the sockets that listen at an address's port, as /proc/PID/fd names them.
func listeningInodes(address string) (inodes []string) {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil
	}
	const listening = "0A" // TCP_LISTEN of the kernel's net/tcp_states.h.
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table) // Absent without IPv6.
		for _, line := range strings.Split(string(text), "\n") {
			fields := strings.Fields(line)
			if len(fields) > 9 && fields[3] == listening && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", at.Port)) {
				inodes = append(inodes, "socket:["+fields[9]+"]")
			}
		}
	}
	return inodes
}

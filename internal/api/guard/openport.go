package guard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"leasehold/internal/api/reply"
)

// Host answers on a port without a token only those who ask for this machine by its own name or address. A web page
// whose name was made to mean 127.0.0.1 asks for that name.
func Host(token string, next http.Handler) http.Handler {
	if token != "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if OnSocket(r) || isOwnHost(r) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		_ = reply.JSON(w, http.StatusMisdirectedRequest, reply.Failure{ // A stranger's loss.
			Error: fmt.Sprintf("the Host %q is not this machine's: without a token (http.token_file) ask for localhost or "+
				"127.0.0.1", r.Host)})
	})
}

// isOwnHost reports whether a request names a loopback address, localhost, or the address that it came in on. One of
// HTTP/1.0 may name nothing, which no browser does.
func isOwnHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	own, err := netip.ParseAddrPort(fmt.Sprint(local))
	return ip.Unmap().IsLoopback() || err == nil && own.Addr().Unmap() == ip.Unmap()
}

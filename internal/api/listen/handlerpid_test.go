package listen

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhoHidesFromItsOwnUserIsAHandler(t *testing.T) {
	const gone = 1 << 22 // Above every process id of Linux.
	own := uint32(os.Getuid())
	for _, c := range []struct {
		cred *unix.Ucred
		want bool
	}{
		{nil, false}, {&unix.Ucred{Pid: int32(os.Getpid()), Uid: own}, false}, {&unix.Ucred{Pid: gone, Uid: 0}, false},
		{&unix.Ucred{Pid: gone, Uid: own + 1}, false}, {&unix.Ucred{Pid: gone, Uid: own}, own != 0},
		{&unix.Ucred{Pid: 1, Uid: 0}, false},
	} {
		if got := (Caller{cred: c.cred}).IsHandler(); got != c.want {
			t.Errorf("%+v: %v", c.cred, got)
		}
	}
}

func TestProcessesOfOneServiceBelongTogether(t *testing.T) {
	const own = "/system.slice/leasehold.service"
	for other, want := range map[string]bool{
		own: true, own + "/child": true, own + "x": false, "/user.slice/user-0.slice/session-1.scope": false, "": false,
		"/": false,
	} {
		if got := sameService(own, other); got != want {
			t.Errorf("%q: %v", other, got)
		}
	}
	for _, shared := range []string{"", "/", "/user.slice/user-0.slice/session-1.scope", "/docker/4711"} {
		if sameService(shared, shared) {
			t.Errorf("all of %q pass for handlers", shared)
		}
	}
}

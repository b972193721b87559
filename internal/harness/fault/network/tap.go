package network

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// address is an Ethernet address.
type address [6]byte

// group tells whether it means more than one place.
func (a address) group() bool { return a[0]&1 == 1 }

// addressOf is the address that the device of a place is given.
func addressOf(place int) address { return address{2, 0, 10, 77, 0, byte(place)} }

// plugIn makes the device of a place, up and with its addresses, and appends it to the ports.
func (s *Switched) plugIn(place int) error {
	if place == 0 {
		return quiet(func() error { return s.tap(place, "sw0", Own) })
	}
	h := s.Host(place)
	return h.Enter(func() error { return s.tap(place, "eth0", h.Address) })
}

// tap makes a TAP device in the calling thread's namespace. It is there as long as its file is open.
func (s *Switched) tap(place int, name, ipv4 string) error {
	file, err := openTAP(name)
	if err != nil {
		return err
	}
	s.ports = append(s.ports, file)
	mac := addressOf(place)
	return ip(
		fmt.Sprintf("link set %s address %s", name, net.HardwareAddr(mac[:])),
		fmt.Sprintf("addr add %s/24 dev %s", ipv4, name),
		fmt.Sprintf("link set %s up", name))
}

func openTAP(name string) (*os.File, error) {
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: open %s: %w", ErrUnavailable, device, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), device), nil // after it is a device: only then can it be polled
}

package datadir

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// networkMagic names the file systems, by the number statfs reports, on which a lock does not prove that no other
// machine has the directory, or whose fsync does not mean what ours must mean. Numbers: linux/magic.h and, for the
// SMB family, fs/smb/client. 9p is not among them: virtual machines use it for a directory of their own host.
var networkMagic = map[uint32]string{
	0x00006969: "NFS",
	0x0000517B: "SMB",
	0xFF534D42: "CIFS",
	0xFE534D42: "SMB",
	0x00C36400: "Ceph",
	0x5346414F: "AFS",
	0x0BD00BD0: "Lustre",
}

// fuseMagic says "some FUSE file system"; which one stands only in the mount table.
const fuseMagic = 0x65735546

// networkFUSE are the FUSE types known to be remote. An unknown one is let in: FUSE is also used for local disks.
var networkFUSE = map[string]bool{
	"fuse.sshfs": true, "fuse.glusterfs": true, "fuse.ceph": true, "fuse.s3fs": true, "fuse.rclone": true,
	"fuse.davfs": true, "fuse.curlftpfs": true,
}

// refuseNetworkFS returns an error if the directory is on a file system known to be remote.
func refuseNetworkFS(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	kind := networkMagic[uint32(st.Type)]
	if kind == "" && uint32(st.Type) == fuseMagic {
		if t := mountType(path); networkFUSE[t] {
			kind = t
		}
	}
	if kind == "" {
		return nil
	}
	return fmt.Errorf("data directory %s is on a network file system (%s): locks and fsync cannot be relied on there; "+
		"set node.data_dir to a directory on a local disk", path, kind)
}

// mountType is the file system type of the mount that holds path, "" if it cannot be told.
func mountType(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return typeOfDevice(table, fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
}

// typeOfDevice finds a device ("major:minor", the third field) in a mountinfo table. The type follows the " - ".
func typeOfDevice(table []byte, device string) string {
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(left)
		if ok && len(fields) > 2 && fields[2] == device {
			kind, _, _ := strings.Cut(right, " ")
			return kind
		}
	}
	return ""
}

package partitioner

import (
	"leasehold/internal/bytesize"
)

func orders() Topic {
	return Topic{Name: "orders", Partitions: 12, MaxBytes: 64 * bytesize.MiB}.WithDefaults()
}

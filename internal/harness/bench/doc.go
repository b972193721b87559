// Package bench measures what real clusters cost: handlers, idle nodes,
// publishing. It prints tables and asserts only that the measurement is sound,
// since the machine is shared. Its tests need the build tag "bench", so that
// `go test ./...` leaves them out; the Make targets that print figures set it,
// and `make test-long` runs each briefly.
package bench

package supervise

import "errors"

// ErrConfig is in the chain of the error of a node whose config contradicts what is stored: trying again will not help.
var ErrConfig = errors.New("this config cannot be run here")

// RestartError ends one run of a node so that another one begins in the same process. The service manager could start
// the process again just as well; but `leasehold dev` has none, and one that gives up after some failures would leave a
// node down that only had to wait for disk space. It is as safe as a new process: a run ends as a process does, with
// all lanes joined, the session ended and the broker stopped, and the next one opens the data directory again, waits
// for handler children that hold its lock, and takes a new boot. If the broker does not stop, the process ends after
// all.
type RestartError struct {
	Reason     string
	Fault      bool       // Something is broken, so the next run waits a while before it tries.
	Quarantine Quarantine // The replica that the next run moves away before it starts its broker.
}

// Quarantine is a replica that is given up: of a topic, when its stream had got as far as Last. The zero value is none.
type Quarantine struct {
	Topic string
	Last  uint64 // Sequence.
}

func (e *RestartError) Error() string { return e.Reason }

// AsRestart returns the RestartError in err's chain, nil if there is none.
func AsRestart(err error) *RestartError {
	var restart *RestartError
	errors.As(err, &restart)
	return restart
}

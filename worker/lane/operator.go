package lane

import "fmt"

// operatorCommands spells the commands that texts suggest to the operator of a partition.
type operatorCommands struct {
	group     string
	partition int
}

// remedies says how an operator gets a partition going again that has stopped at a message.
func (c operatorCommands) remedies(seq uint64) string {
	return fmt.Sprintf("%s tries it again, %s steps over it", c.resume(), c.seekPast(seq))
}

// resume is the command that makes the partition continue.
func (c operatorCommands) resume() string {
	return fmt.Sprintf("`leasehold resume %s --partition %d`", c.group, c.partition)
}

// seekPast is the command that makes the partition continue after a message.
func (c operatorCommands) seekPast(seq uint64) string {
	return fmt.Sprintf("`leasehold seek %s --partition %d --to seq:%d`", c.group, c.partition, seq+1)
}

package registry

import (
	"encoding/json"
	"reflect"
	"testing"

	"leasehold/cluster"
	"leasehold/partitioner"
)

// What is stored about the cluster, a topic or a group is refused, or comes
// back from being stored again as it was.
func FuzzStoredDefinition(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"mode":"cluster","timing":"lan","session_ttl_ns":5000000000,"renew_ns":1000000000,"margin_ns":1000000000}`,
		`{"v":1,"partitions":64,"subject":"orders.*","key":[1],"floor":17,"groups":["billing"]}`,
		`{"v":1,"topic":"orders","start":"earliest","start_after":0,"removed":true}`,
		`{"v":-1,"partitions":-5,"key":[0,-1,99999999999],"floor":18446744073709551616}`,
		`{"stream":"orders","seq":17}`, `{"v":1}`, `{"v":1} {"v":1}`,
		`{"mode":7}`, `{"groups":["",null]}`, `null`, `[]`, ``, `{"subject":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		comesBack[Cluster](t, data)
		comesBack[Topic](t, data)
		comesBack[Group](t, data)
	})
}

func comesBack[T any](t *testing.T, data []byte) {
	t.Helper()
	var def, again T
	if cluster.Decode("test", 1, data, &def) != nil {
		return
	}
	stored, err := json.Marshal(def)
	if err == nil {
		err = cluster.Decode("test", 1, stored, &again)
	}
	if d, ok := any(def).(Topic); ok && (d.Partitions < 1 || d.Partitions > partitioner.MaxPartitions) {
		t.Fatalf("%s was read as a topic of %d partitions", data, d.Partitions)
	}
	// An empty list is left out, and none when it is read.
	if one, two := reflect.ValueOf(&def), reflect.ValueOf(&again); err != nil ||
		!reflect.DeepEqual(dropEmpty(one), dropEmpty(two)) {
		t.Fatalf("%s is %+v, stored again %s: %+v, %v", data, def, stored, again, err)
	}
}

// dropEmpty is the struct with empty lists as none.
func dropEmpty(p reflect.Value) any {
	for i := range p.Elem().NumField() {
		if field := p.Elem().Field(i); field.Kind() == reflect.Slice && field.Len() == 0 {
			field.SetZero()
		}
	}
	return p.Interface()
}

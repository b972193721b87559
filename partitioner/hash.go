package partitioner

// FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/#FNV-param.
const (
	fnvOffset uint32 = 2166136261
	fnvPrime  uint32 = 16777619
)

// Of is the partition, 0 to n-1, of the key made of these subject tokens: FNV-1a 32 of their bytes, joined
// without a separator, mod n. It is what nats-server's {{partition(n,…)}} computes (getHashPartition in
// subject_transform.go), and it must never change: testdata/golden.tsv freezes it. An n below 1 gives 0, as there.
func Of(n int, tokens ...string) int {
	if n < 1 {
		return 0
	}
	h := fnvOffset
	for _, token := range tokens {
		for i := range len(token) {
			h = (h ^ uint32(token[i])) * fnvPrime
		}
	}
	return int(h % uint32(n))
}

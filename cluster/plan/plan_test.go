package plan

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

var seeds = flag.Int("seeds", 3000, "random cases to plan")

// situation is a random group: some members, some partitions, owned by members, by nobody or by the dead.
type situation struct {
	members []Member
	owners  []string
}

func random(seed uint64) situation {
	r := rand.New(rand.NewPCG(seed, 1))
	var s situation
	weighted := r.IntN(3) == 0
	for i := range r.IntN(7) {
		m := Member{Name: fmt.Sprintf("n%d", i+1)}
		if weighted {
			m.Weight = r.IntN(4)
		}
		s.members = append(s.members, m)
	}
	s.owners = make([]string, r.IntN(130))
	for p := range s.owners {
		switch k := r.IntN(len(s.members) + 3); {
		case k < len(s.members):
			s.owners[p] = s.members[k].Name
		case k == len(s.members):
			s.owners[p] = "dead"
		}
	}
	r.Shuffle(len(s.members), func(i, j int) { s.members[i], s.members[j] = s.members[j], s.members[i] })
	return s
}

func eachSituation(t *testing.T, f func(t *testing.T, seed uint64, s situation)) {
	t.Helper()
	for seed := range uint64(*seeds) {
		if f(t, seed, random(seed)); t.Failed() {
			t.Fatalf("seed %d: %+v", seed, random(seed))
		}
	}
}

func counts(target []string) map[string]int {
	c := map[string]int{}
	for _, o := range target {
		c[o]++
	}
	return c
}

func TestAssignIsBalancedByWeight(t *testing.T) {
	eachSituation(t, func(t *testing.T, _ uint64, s situation) {
		got := counts(Assign(s.members, s.owners))
		total := 0
		for _, m := range normalize(s.members) {
			total += m.Weight
		}
		for _, m := range normalize(s.members) {
			base := len(s.owners) * m.Weight / total
			if n := got[m.Name]; n < base || n > base+1 {
				t.Errorf("%s has %d partitions, its share is %d or one more", m.Name, n, base)
			}
		}
		if len(s.members) > 0 && got[""]+got["dead"] > 0 {
			t.Errorf("partitions left without a live owner: %v", got)
		}
	})
}

func TestAssignIgnoresTheOrderOfMembers(t *testing.T) {
	eachSituation(t, func(t *testing.T, _ uint64, s situation) {
		want := Assign(s.members, s.owners)
		slices.Reverse(s.members)
		if got := Assign(s.members, s.owners); !slices.Equal(got, want) {
			t.Errorf("reversed members give another plan:\n%v\n%v", got, want)
		}
	})
}

func TestAssignStaysPutWhenHalfDone(t *testing.T) {
	eachSituation(t, func(t *testing.T, seed uint64, s situation) {
		want := Assign(s.members, s.owners)
		r := rand.New(rand.NewPCG(seed, 2))
		for range 4 {
			half := slices.Clone(s.owners)
			for p := range half {
				switch r.IntN(3) {
				case 0:
					half[p] = want[p]
				case 1: // given up by its owner and not yet taken
					if half[p] != want[p] {
						half[p] = ""
					}
				}
			}
			if got := Assign(s.members, half); !slices.Equal(got, want) {
				t.Errorf("half-done plan changed:\nowners %v\n  half %v\n  want %v\n   got %v", s.owners, half, want, got)
			}
		}
	})
}

// minimum is how few live-owned partitions any balanced plan has to move: everybody's surplus over what the best choice
// of who gets the extra places allows.
func minimum(s situation) int {
	ms := normalize(s.members)
	total := 0
	for _, m := range ms {
		total += m.Weight
	}
	left, surplus, canAbsorb := len(s.owners), 0, 0
	owned := counts(s.owners)
	for _, m := range ms {
		base := len(s.owners) * m.Weight / total
		left -= base
		surplus += max(0, owned[m.Name]-base)
		if owned[m.Name] > base {
			canAbsorb++
		}
	}
	return surplus - min(left, canAbsorb)
}

func TestAssignMovesNoMoreThanItMust(t *testing.T) {
	eachSituation(t, func(t *testing.T, _ uint64, s situation) {
		if len(s.members) == 0 {
			return
		}
		moved := 0
		live := map[string]bool{}
		for _, m := range s.members {
			live[m.Name] = true
		}
		for p, to := range Assign(s.members, s.owners) {
			if live[s.owners[p]] && s.owners[p] != to {
				moved++
			}
		}
		if want := minimum(s); moved != want {
			t.Errorf("moved %d partitions of live members, %d would do", moved, want)
		}
	})
}

func TestAssignWithoutMembersNamesNobody(t *testing.T) {
	if got := Assign(nil, []string{"n1", ""}); !slices.Equal(got, []string{"", ""}) {
		t.Errorf("got %v", got)
	}
}

func FuzzAssign(f *testing.F) {
	f.Add(uint8(3), []byte{0, 1, 2, 3, 4, 5})
	f.Fuzz(func(t *testing.T, n uint8, raw []byte) {
		s := situation{owners: make([]string, len(raw))}
		for i := range n % 9 {
			s.members = append(s.members, Member{Name: fmt.Sprintf("n%d", i), Weight: int(n) % (int(i) + 1)})
		}
		for p, b := range raw {
			s.owners[p] = fmt.Sprintf("n%d", b)
		}
		want := Assign(s.members, s.owners)
		for p := range want {
			if len(raw) > 0 && p%2 == int(n)%2 {
				s.owners[p] = want[p]
			}
		}
		if got := Assign(s.members, s.owners); !slices.Equal(got, want) {
			t.Errorf("half-done plan changed: %v, then %v", want, got)
		}
	})
}

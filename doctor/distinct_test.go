package doctor

import (
	"math"
	"strconv"
	"testing"
)

func TestDistinct(t *testing.T) {
	d := newDistinct()
	n := 0
	for _, upTo := range []int{0, 1, 1000, maxExact, maxExact + 1, 1_000_000} {
		for ; n < upTo; n++ {
			d.add(strconv.Itoa(n))
			d.add(strconv.Itoa(n / 2))
		}
		got, exact := d.value()
		if exact != (upTo <= maxExact) {
			t.Errorf("%d: exact %t", upTo, exact)
		}
		if exact && got != int64(upTo) || math.Abs(float64(got)-float64(upTo)) > 0.03*float64(upTo) {
			t.Errorf("%d of %d", got, upTo)
		}
	}
}

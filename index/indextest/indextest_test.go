package indextest_test

import (
	"testing"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/index/indextest"
	"github.com/lakectl/lakectl/table"
)

func TestBucket(t *testing.T) {
	for _, n := range []int{1, 4} {
		indextest.Run(t, func() table.Locator { return index.NewBucket(n, []string{"id"}, index.BucketOptions{}) })
	}
}

func TestBloom(t *testing.T) {
	indextest.Run(t, func() table.Locator { return index.NewBloom(index.BloomOptions{}) })
}

func TestBloomOfTheTable(t *testing.T) {
	indextest.RunTable(t, func() table.Locator { return index.NewBloom(index.BloomOptions{Scope: index.ScopeTable}) })
}

func TestSimple(t *testing.T) {
	indextest.Run(t, func() table.Locator { return index.NewSimple(index.SimpleOptions{Parallelism: 1}) })
}

func TestSimpleOfTheTable(t *testing.T) {
	indextest.RunTable(t, func() table.Locator { return index.NewSimple(index.SimpleOptions{Scope: index.ScopeTable}) })
}

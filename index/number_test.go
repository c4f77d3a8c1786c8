package index

import (
	"os"
	"testing"

	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/table/fsview"
)

// TestNumbersAfterCrash: the number of a reading that failed has entries in the map. After a crash no other file group may get it,
// though a copy of the index was made before anything was saved.
func TestNumbersAfterCrash(t *testing.T) {
	slice := func(name string) fsview.FileSlice {
		return fsview.FileSlice{Group: fsview.GroupID{FileID: name}, Base: &fsview.File{Key: name}}
	}
	x, err := OpenRecord(t.TempDir(), RecordOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	generation, seq, numbers := x.begin([]fsview.FileSlice{slice("one")})
	h := []keymap.Hash{keymap.SumString("key", 0)}
	if err := x.m.Put(seq, []keymap.Entry{{Hash: h[0], Value: keymap.NewValue(numbers[0], keymap.Live)}}); err != nil {
		t.Fatal(err)
	}
	x.giveUp(generation, seq, numbers)
	x.note(nil) // for the copy
	if err := x.save(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // what is on the disk at a crash
	if err := os.CopyFS(dir, os.DirFS(x.dir)); err != nil {
		t.Fatal(err)
	}
	y, err := OpenRecord(dir, RecordOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	_, seq, numbers = y.begin([]fsview.FileSlice{slice("two")})
	y.m.End(seq)
	usable := make([]bool, numbers[0]+1)
	usable[numbers[0]] = true
	values := make([]keymap.Value, 1)
	if err := y.m.Get(h, usable, values); err != nil {
		t.Fatal(err)
	}
	if values[0] != keymap.None {
		t.Errorf("the key of file group one is in file group two, number %d", numbers[0])
	}
}

// TestSaveFails: what could not be saved is not taken for saved.
func TestSaveFails(t *testing.T) {
	x, err := OpenRecord(t.TempDir(), RecordOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, seq, numbers := x.begin([]fsview.FileSlice{{Group: fsview.GroupID{FileID: "one"}}})
	x.m.End(seq)
	if err := x.m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.save(); err == nil || !x.changed[numbers[0]] {
		t.Errorf("error %v, and left to be saved: %v", err, x.changed)
	}
	if err := x.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

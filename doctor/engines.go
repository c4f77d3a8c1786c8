package doctor

import "slices"

// Engine is a reader of tables, in the versions that behave alike.
type Engine struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Reads  []int  `json:"reads"` // table versions
	Merges bool   `json:"merges_logs"`
	Note   string `json:"note,omitempty"`
}

// Engines are the readers whose behaviour is known.
var Engines = []Engine{
	{"spark", "Spark with Hudi 1.1 or later", []int{6, 8, 9}, true, ""},
	{"flink", "Flink with Hudi 1.1 or later", []int{6, 8, 9}, true, ""},
	{"spark-0.15", "Spark with Hudi 0.14 or 0.15", []int{6}, true, ""},
	{"flink-0.15", "Flink with Hudi 0.14 or 0.15", []int{6}, true, ""},
	{"presto", "Presto", []int{6}, true, "Hudi 0.14 or 0.15 inside"},
	{"athena", "Athena", []int{6}, true, "Hudi 0.14 or 0.15 inside"},
	{"doris", "Doris", []int{6}, true, "Hudi 0.14 or 0.15 inside"},
	{"starrocks", "StarRocks", []int{6}, true, "Hudi 0.14 or 0.15 inside"},
	{"trino", "Trino 482 or later", []int{6, 8, 9}, false, "always the read-optimized view, silently"},
	{"trino-475", "Trino 419 to 475", []int{6}, false, "always the read-optimized view, silently"},
	{"hudi-rs", "hudi-rs 0.5", []int{6, 8, 9}, true, "Python, DataFusion, Daft; right on 9, wrong on some merge-on-read tables of 6"},
	{"duckdb", "DuckDB", []int{6, 8, 9}, false, "reads the base files that lakectl view names"},
}

// EngineNamed returns the engine of a name.
func EngineNamed(name string) (Engine, bool) {
	i := slices.IndexFunc(Engines, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		return Engine{}, false
	}
	return Engines[i], true
}

// CheckEngines says which engines read tables of a version and type. Of the named ones each must.
func CheckEngines(version int, kind string, named []string) []Check {
	var out []Check
	var whole, partly, not []string
	for _, e := range Engines {
		switch {
		case !slices.Contains(e.Reads, version):
			not = append(not, e.Title)
		case kind == "mor" && !e.Merges:
			partly = append(partly, e.Title)
		default:
			whole = append(whole, e.Title)
		}
		if !slices.Contains(named, e.Name) {
			continue
		}
		c := Check{Name: "engine", Subject: e.Name, Status: OK, Detail: e.Title + " reads " + describe(version, kind) + note(e)}
		switch {
		case !slices.Contains(e.Reads, version):
			c.Status, c.Detail = Problem, e.Title+" does not read "+describe(version, kind)+note(e)
			c.Next = "write a table of version " + listInts(e.Reads) + ", or read with a later release"
		case kind == "mor" && !e.Merges:
			c.Status, c.Detail = Problem, e.Title+" merges no log files: it sees what compaction has reached, and no newer rows"
			c.Next = "write a table of type cow, or compact as often as rows must show"
		}
		out = append(out, c)
	}
	if len(named) > 0 {
		return out
	}
	detail := describe(version, kind) + " is read whole by " + list(whole)
	if len(partly) > 0 {
		detail += "; without its log files by " + list(partly)
	}
	if len(not) > 0 {
		detail += "; not by " + list(not)
	}
	return []Check{{Name: "engines", Status: OK, Detail: detail}}
}

func note(e Engine) string {
	if e.Note == "" {
		return ""
	}
	return " (" + e.Note + ")"
}

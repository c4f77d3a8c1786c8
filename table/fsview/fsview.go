// Package fsview turns file names and a timeline into file groups and file slices. It is pure.
package fsview

// File is a data file of the table.
type File struct {
	Key  string // relative to the base path
	Size int64
}

// GroupID names a file group.
type GroupID struct{ Partition, FileID string }

// FileSlice is one version of a file group. Base nil: a log-only slice.
type FileSlice struct {
	Group       GroupID
	BaseInstant string
	Base        *File
	Logs        []File
}

package file

var Classify = classify

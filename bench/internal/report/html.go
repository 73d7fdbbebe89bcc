package report

import "io"

// HTML todo.
func (r *Report) HTML(w io.Writer) error { return nil }

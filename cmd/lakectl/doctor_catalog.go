package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/catalog/glue"
	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/doctor"
)

// catalogs tries the catalogs that a table is registered in, and whether its history can be found.
func (x *examination) catalogs(ctx context.Context, out *doctorTable, c config.Table) error {
	for _, name := range c.Sync {
		out.add(x.once("catalog "+name, func() doctor.Check { return x.catalog(ctx, name) }))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c.Bootstrap != nil {
		out.add(x.history(ctx, c))
	}
	return ctx.Err()
}

func (x *examination) catalog(ctx context.Context, name string) doctor.Check {
	k := x.file.Catalogs[name]
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	err := func() error {
		if k.Type == "glue" {
			_, err := glue.New(ctx, glue.Options{Region: k.Region, Endpoint: k.Endpoint})
			return err
		}
		client, err := hms.Dial(ctx, k.URI, hms.Options{User: k.User})
		if err != nil {
			return err
		}
		defer client.Close()
		// That there is no such table is an answer.
		if _, err = client.Table(ctx, k.Database, "lakectl_doctor"); errors.Is(err, hms.ErrNotFound) || errors.Is(err, hms.ErrRefused) {
			return nil
		}
		return err
	}()
	c := doctor.Check{Name: "catalog", Subject: name, Status: doctor.OK, Detail: fmt.Sprintf("the metastore at %s answers; tables go to database %s", k.URI, k.Database)}
	if k.Type == "glue" {
		c.Status, c.Detail = doctor.Skipped, "Glue is asked at the first sync"
	}
	if err != nil {
		c = troubled("catalog", err)
		c.Subject = name
		if errors.Is(err, hms.ErrUnavailable) {
			c.Status, c.Next = doctor.Unreachable, "see that the address is right and answers from this machine"
		}
	}
	return c
}

// history tries whether the history of a table can be listed and its columns fit.
func (x *examination) history(ctx context.Context, c config.Table) doctor.Check {
	ctx, cancel := context.WithTimeout(ctx, 3*x.timeout)
	defer cancel()
	k := doctor.Check{Name: "history", Status: doctor.OK}
	err := func() (err error) {
		source, done, err := openHistory(ctx, x.file, c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		k.Subject = source.Name
		j := &ingestion{file: x.file}
		o, err := loadOptions(ctx, j, c, nil, source, bootstrapFlags{})
		if err != nil {
			return err
		}
		if _, err := bootstrap.New(nil, source, o); err != nil {
			return err
		}
		parts, err := source.Partitions(ctx, o.Keep)
		if err != nil {
			return err
		}
		files, bytes := 0, int64(0)
		for _, p := range parts {
			if p.Err != nil {
				return p.Err
			}
			files += len(p.Files)
			bytes += p.Bytes()
		}
		k.Detail = fmt.Sprintf("%s, %d columns, %d partitions, %d files, %s", source.Format, len(source.Schema.Fields()), len(parts), files, human(bytes))
		return nil
	}()
	if err == nil {
		return k
	}
	t := troubled("history", err)
	t.Subject = k.Subject
	if errors.Is(err, hms.ErrUnavailable) {
		t.Status, t.Next = doctor.Unreachable, "see that the address of the catalog is right and answers from this machine"
	}
	t.Detail = strings.ReplaceAll(t.Detail, "\n", "; ")
	return t
}

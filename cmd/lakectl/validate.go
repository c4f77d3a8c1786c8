package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
)

// configFlag adds the flag -c, which the command cannot do without.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", "", "configuration file")
	_ = c.MarkFlagRequired("config")
}

func (a *app) validateCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "validate -c FILE", Short: "Check a configuration file, without asking anything around it",
		Example: "  lakectl validate -c lake.yaml", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := config.Load(path)
			if err != nil {
				return err
			}
			found := map[string]any{"valid": true, "file": path, "sources": len(f.Sources), "tables": len(f.Tables)}
			return a.answer(found, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is valid: %d sources, %d tables\n", path, len(f.Sources), len(f.Tables))
				return err
			})
		},
	}
	configFlag(c, &path)
	return c
}

func (a *app) configCommand() *cobra.Command {
	var path string
	show := &cobra.Command{
		Use: "show -c FILE", Short: "Print the configuration that will be used: defaults filled in, secrets hidden",
		Example: "  lakectl config show -c lake.yaml", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := config.Load(path)
			if err != nil {
				return err
			}
			return a.answer(f, func(w io.Writer) error {
				j, err := json.Marshal(f) // the form that leaves out what is not set
				if err != nil {
					return err
				}
				out, err := yaml.JSONToYAML(j)
				if err != nil {
					return err
				}
				_, err = w.Write(out)
				return err
			})
		},
	}
	configFlag(show, &path)
	return group(&cobra.Command{Use: "config", Short: "Show the configuration", Example: "  lakectl config show -c lake.yaml"}, show)
}

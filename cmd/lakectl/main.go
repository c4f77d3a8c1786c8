// Command lakectl upserts Debezium and Kafka streams into Apache Hudi tables, and reads them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// app is what every command has: where its answer and its log go, and in which form.
type app struct {
	out, err  io.Writer
	output    string // text or json
	logLevel  string
	logFormat string
	log       *slog.Logger
}

// run is the whole program; it returns the exit code.
func run(args []string, out, errw io.Writer) (code int) {
	a := &app{out: out, err: errw, log: slog.New(slog.DiscardHandler)}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(errw, "lakectl: this is a bug of lakectl, please report it with what follows: %v\n%s", r, debug.Stack())
			code = exitBug
		}
	}()
	ctx, stop := signals(errw)
	defer stop()

	ran := false
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errw)
	markRun(root, &ran)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !ran && exitCode(err) == exitBug { // cobra's own complaints about arguments have no sentinel
		err = usage("%s", strings.TrimSpace(err.Error())+" (see lakectl --help)")
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(errw, "lakectl: interrupted")
		return exitInterrupted
	}
	code = exitCode(err)
	if a.output == "json" {
		_ = json.NewEncoder(errw).Encode(map[string]any{"error": err.Error(), "exit": code})
	} else {
		fmt.Fprintf(errw, "lakectl: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nlakectl: "))
	}
	return code
}

// signals returns a context that the first SIGTERM or SIGINT ends; the second ends the process.
func signals(errw io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-ch:
			case <-done:
				return
			}
			if n > 0 {
				os.Exit(exitInterrupted)
			}
			fmt.Fprintln(errw, "lakectl: stopping; a second signal ends at once")
			cancel()
		}
	}()
	return ctx, func() { signal.Stop(ch); close(done); cancel() }
}

// markRun notes that a command's own code was reached, so that what fails before is known to be a matter of usage.
func markRun(c *cobra.Command, ran *bool) {
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error { *ran = true; return do(c, args) }
	}
	for _, sub := range c.Commands() {
		markRun(sub, ran)
	}
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "lakectl",
		Short: "Upsert Kafka and Debezium streams into Apache Hudi tables, and read them",
		Long: `lakectl upserts Kafka and Debezium streams into Apache Hudi tables on a local disk or S3, and reads them.

Exit codes: 0 done; 1 a check found a difference; 2 wrong usage or configuration; 3 a source or store could not be
reached; 4 data was refused; 5 another writer owns the table; 6 the table's files are damaged or of a kind that lakectl
cannot read; 70 a bug of lakectl; 130 interrupted.`,
		Example:           "  lakectl demo\n  lakectl ingest -c lake.yaml --until-caught-up\n  lakectl read --path s3://lake/shop/orders --limit 10",
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.setUp() },
	}
	f := c.PersistentFlags()
	f.StringVar(&a.output, "output", "text", "form of the answer: text or json")
	f.StringVar(&a.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "form of the log on stderr: text or json")
	c.CompletionOptions.HiddenDefaultCmd = true
	c.AddCommand(a.bootstrapCommand(), a.ingestCommand(), a.readCommand(), a.inspectCommand(), a.viewCommand(), a.auditCommand(), a.verifyCommand(),
		a.compactCommand(), a.cleanCommand(), a.archiveCommand(), a.rollbackCommand(), a.savepointCommand(), a.restoreCommand(), a.clusterCommand(), a.syncCommand(), a.deletePartitionsCommand(), a.validateCommand(), a.doctorCommand(), a.configCommand(), a.demoCommand(), a.versionCommand())
	return c
}

// group makes a command that only holds others: alone it shows its help, and what is not one of them is wrong usage.
func group(c *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	c.AddCommand(subs...)
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		var names []string
		for _, s := range c.Commands() {
			names = append(names, s.Name())
		}
		return usage("%s %s: expected %s", c.CommandPath(), args[0], strings.Join(names, ", "))
	}
	return c
}

func (a *app) setUp() error {
	if a.output != "text" && a.output != "json" {
		return usage("--output %s: expected text or json", a.output)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usage("--log-level %s: expected debug, info, warn or error", a.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch a.logFormat {
	case "text":
		a.log = slog.New(slog.NewTextHandler(a.err, o))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(a.err, o))
	default:
		return usage("--log-format %s: expected text or json", a.logFormat)
	}
	return nil
}

// answer prints what a command found: as one JSON object, or as text does.
func (a *app) answer(v any, text func(w io.Writer) error) error {
	if a.output == "json" {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	return text(a.out)
}

// Package glue reads and registers tables and partitions in the AWS Glue Data Catalog, described as the Hive Metastore describes
// them (package hms). It never drops anything. An alteration is laid over what Glue has, and Glue refuses it if the table was changed
// meanwhile. Calls that are throttled or fail on the way are tried again by AWS's SDK.
package glue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/glue"
	"github.com/aws/aws-sdk-go-v2/service/glue/types"
	"github.com/aws/smithy-go"

	"github.com/lakectl/lakectl/catalog/hms"
)

const batch = 100 // the most partitions that BatchCreatePartition and BatchUpdatePartition take

// Options says where Glue is. Credentials come from the AWS default chain.
type Options struct {
	Region   string // "": what the AWS environment and files say
	Endpoint string // URL, "": AWS's of the region
}

// Client is a catalog.Catalog.
type Client struct{ glue *glue.Client }

// New returns a client. It does not call Glue.
func New(ctx context.Context, o Options) (*Client, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = time.Minute })
	load := []func(*config.LoadOptions) error{config.WithHTTPClient(client)}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("glue: AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("glue: no region: write region in the catalog's configuration, or set AWS_REGION")
	}
	return &Client{glue.NewFromConfig(cfg, func(g *glue.Options) {
		if o.Endpoint != "" {
			g.BaseEndpoint = aws.String(o.Endpoint)
		}
	})}, nil
}

// Table returns a table, or an error wrapping hms.ErrNotFound.
func (c *Client) Table(ctx context.Context, db, name string) (hms.Table, error) {
	t, err := c.get(ctx, db, name)
	if err != nil {
		return hms.Table{}, err
	}
	return hms.Table{
		Database: db, Name: aws.ToString(t.Name), Owner: aws.ToString(t.Owner), Type: aws.ToString(t.TableType),
		Storage: storageOf(t.StorageDescriptor), PartitionKeys: columnsOf(t.PartitionKeys), Parameters: t.Parameters,
	}, nil
}

func (c *Client) get(ctx context.Context, db, name string) (*types.Table, error) {
	out, err := c.glue.GetTable(ctx, &glue.GetTableInput{DatabaseName: &db, Name: &name})
	if err != nil {
		return nil, wrap("table "+db+"."+name, err)
	}
	return out.Table, nil
}

// CreateDatabase makes a database, or returns an error wrapping hms.ErrExists.
func (c *Client) CreateDatabase(ctx context.Context, name, description string) error {
	_, err := c.glue.CreateDatabase(ctx, &glue.CreateDatabaseInput{DatabaseInput: &types.DatabaseInput{Name: &name, Description: &description}})
	return wrap("create database "+name, err)
}

// CreateTable registers a table, or returns an error wrapping hms.ErrExists, or hms.ErrNotFound if there is no such database.
func (c *Client) CreateTable(ctx context.Context, t hms.Table) error {
	in := &types.TableInput{}
	lay(in, t)
	_, err := c.glue.CreateTable(ctx, &glue.CreateTableInput{DatabaseName: &t.Database, TableInput: in})
	return wrap("create table "+t.Database+"."+t.Name, err)
}

// AlterTable gives a table the columns, parameters and storage that it has now, and with Cascade all of its partitions its
// columns.
func (c *Client) AlterTable(ctx context.Context, t hms.Table, o hms.AlterOptions) error {
	have, err := c.get(ctx, t.Database, t.Name)
	if err != nil {
		return err
	}
	in := &types.TableInput{
		Name: have.Name, Description: have.Description, LastAccessTime: have.LastAccessTime, LastAnalyzedTime: have.LastAnalyzedTime,
		Owner: have.Owner, Retention: have.Retention, StorageDescriptor: have.StorageDescriptor, TargetTable: have.TargetTable,
		ViewExpandedText: have.ViewExpandedText, ViewOriginalText: have.ViewOriginalText,
	}
	lay(in, t)
	// Archiving would keep a version of the table for each commit that it is told of.
	if _, err := c.glue.UpdateTable(ctx, &glue.UpdateTableInput{DatabaseName: &t.Database, TableInput: in, VersionId: have.VersionId, SkipArchive: aws.Bool(true)}); err != nil {
		return wrap("alter table "+t.Database+"."+t.Name, err)
	}
	if !o.Cascade {
		return nil
	}
	columns := columns(t.Storage.Columns)
	return c.edit(ctx, t, func(p *types.PartitionInput) bool {
		if p.StorageDescriptor == nil {
			return false
		}
		p.StorageDescriptor.Columns = columns
		return true
	})
}

// Partitions calls each with the partitions of a table, some hundred at a time.
func (c *Client) Partitions(ctx context.Context, t hms.Table, each func([]hms.Partition) error) error {
	return c.pages(ctx, t, func(page []types.Partition) error {
		out := make([]hms.Partition, len(page))
		for i, p := range page {
			own := storageOf(p.StorageDescriptor)
			out[i] = hms.Partition{Values: p.Values, Parameters: p.Parameters, Location: own.Location}
			if own.InputFormat != t.Storage.InputFormat || own.SerDe.Class != t.Storage.SerDe.Class || !slices.Equal(own.Columns, t.Storage.Columns) {
				out[i].Own = &own
			}
		}
		return each(out)
	})
}

func (c *Client) pages(ctx context.Context, t hms.Table, each func([]types.Partition) error) error {
	pages := glue.NewGetPartitionsPaginator(c.glue, &glue.GetPartitionsInput{DatabaseName: &t.Database, TableName: &t.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return wrap("partitions of "+t.Database+"."+t.Name, err)
		}
		if len(page.Partitions) == 0 {
			continue
		}
		if err := each(page.Partitions); err != nil {
			return err
		}
	}
	return nil
}

// AddPartitions registers partitions and leaves alone those that are there. One without storage of its own gets the table's.
func (c *Client) AddPartitions(ctx context.Context, t hms.Table, parts []hms.Partition) error {
	for some := range slices.Chunk(parts, batch) {
		in := make([]types.PartitionInput, len(some))
		for i, p := range some {
			s := t.Storage
			if p.Own != nil {
				s = *p.Own
			}
			s.Location = p.Location
			in[i] = types.PartitionInput{Values: p.Values, Parameters: p.Parameters, StorageDescriptor: layStorage(&types.StorageDescriptor{}, s)}
		}
		out, err := c.glue.BatchCreatePartition(ctx, &glue.BatchCreatePartitionInput{DatabaseName: &t.Database, TableName: &t.Name, PartitionInputList: in})
		if err != nil {
			return wrap("add partitions to "+t.Database+"."+t.Name, err)
		}
		for _, e := range out.Errors {
			if e.ErrorDetail != nil && aws.ToString(e.ErrorDetail.ErrorCode) != "AlreadyExistsException" {
				return refused("add partition", t, e.PartitionValues, e.ErrorDetail)
			}
		}
	}
	return nil
}

// AlterPartitions gives partitions, found by their values, the location, parameters and storage that they have here.
func (c *Client) AlterPartitions(ctx context.Context, t hms.Table, parts []hms.Partition) error {
	wanted := map[string]hms.Partition{}
	for _, p := range parts {
		wanted[strings.Join(p.Values, "\x00")] = p
	}
	if err := c.edit(ctx, t, func(in *types.PartitionInput) bool {
		p, ok := wanted[strings.Join(in.Values, "\x00")]
		if !ok {
			return false
		}
		delete(wanted, strings.Join(in.Values, "\x00"))
		s := t.Storage
		if p.Own != nil {
			s = *p.Own
		}
		s.Location = p.Location
		if in.StorageDescriptor == nil {
			in.StorageDescriptor = &types.StorageDescriptor{}
		}
		in.Parameters = p.Parameters
		layStorage(in.StorageDescriptor, s)
		return true
	}); err != nil {
		return err
	}
	for _, p := range wanted {
		return fmt.Errorf("glue: alter partition %v of %s.%s: %w", p.Values, t.Database, t.Name, hms.ErrNotFound)
	}
	return nil
}

// edit reads all partitions and writes back those that change took a hand in.
func (c *Client) edit(ctx context.Context, t hms.Table, change func(*types.PartitionInput) bool) error {
	var entries []types.BatchUpdatePartitionRequestEntry
	if err := c.pages(ctx, t, func(page []types.Partition) error {
		for _, p := range page {
			in := &types.PartitionInput{
				Values: p.Values, Parameters: p.Parameters, StorageDescriptor: p.StorageDescriptor,
				LastAccessTime: p.LastAccessTime, LastAnalyzedTime: p.LastAnalyzedTime,
			}
			if change(in) {
				entries = append(entries, types.BatchUpdatePartitionRequestEntry{PartitionInput: in, PartitionValueList: p.Values})
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for some := range slices.Chunk(entries, batch) {
		out, err := c.glue.BatchUpdatePartition(ctx, &glue.BatchUpdatePartitionInput{DatabaseName: &t.Database, TableName: &t.Name, Entries: some})
		if err != nil {
			return wrap("alter partitions of "+t.Database+"."+t.Name, err)
		}
		for _, e := range out.Errors {
			return refused("alter partition", t, e.PartitionValueList, e.ErrorDetail)
		}
	}
	return nil
}

func refused(op string, t hms.Table, values []string, e *types.ErrorDetail) error {
	err := fmt.Errorf("glue: %s %v of %s.%s", op, values, t.Database, t.Name)
	if e == nil {
		return fmt.Errorf("%w: %w", err, hms.ErrRefused)
	}
	return fmt.Errorf("%w: %w: %s: %s", err, hms.ErrRefused, aws.ToString(e.ErrorCode), aws.ToString(e.ErrorMessage))
}

// wrap says which of hms's errors one of the SDK is.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	is := hms.ErrUnavailable
	var api smithy.APIError
	if errors.As(err, &api) {
		switch code := api.ErrorCode(); {
		case code == "EntityNotFoundException":
			is = hms.ErrNotFound
		case code == "AlreadyExistsException":
			is = hms.ErrExists
		case api.ErrorFault() == smithy.FaultServer, code == "ConcurrentModificationException", code == "ThrottlingException", code == "OperationTimeoutException":
		default:
			is = hms.ErrRefused
		}
	}
	return fmt.Errorf("glue: %s: %w: %w", op, is, err)
}

func columnsOf(in []types.Column) []hms.Column {
	out := make([]hms.Column, len(in))
	for i, c := range in {
		out[i] = hms.Column{Name: aws.ToString(c.Name), Type: aws.ToString(c.Type), Comment: aws.ToString(c.Comment)}
	}
	return out
}

func columns(in []hms.Column) []types.Column {
	out := make([]types.Column, len(in))
	for i, c := range in {
		out[i] = types.Column{Name: aws.String(c.Name), Type: aws.String(c.Type), Comment: aws.String(c.Comment)}
	}
	return out
}

func storageOf(s *types.StorageDescriptor) hms.Storage {
	if s == nil {
		return hms.Storage{}
	}
	out := hms.Storage{
		Columns: columnsOf(s.Columns), Location: aws.ToString(s.Location), InputFormat: aws.ToString(s.InputFormat), OutputFormat: aws.ToString(s.OutputFormat),
		Parameters: s.Parameters, Buckets: s.NumberOfBuckets, BucketBy: s.BucketColumns,
	}
	if s.SerdeInfo != nil {
		out.SerDe = hms.SerDe{Class: aws.ToString(s.SerdeInfo.SerializationLibrary), Parameters: s.SerdeInfo.Parameters}
	}
	return out
}

// lay puts t over what Glue has.
func lay(in *types.TableInput, t hms.Table) {
	in.Name, in.TableType = aws.String(t.Name), aws.String(t.Type)
	if t.Owner != "" {
		in.Owner = aws.String(t.Owner)
	}
	in.Parameters, in.PartitionKeys = maps.Clone(t.Parameters), columns(t.PartitionKeys)
	if in.StorageDescriptor == nil {
		in.StorageDescriptor = &types.StorageDescriptor{}
	}
	layStorage(in.StorageDescriptor, t.Storage)
}

func layStorage(d *types.StorageDescriptor, s hms.Storage) *types.StorageDescriptor {
	d.Columns, d.Location = columns(s.Columns), aws.String(s.Location)
	d.InputFormat, d.OutputFormat = aws.String(s.InputFormat), aws.String(s.OutputFormat)
	d.Parameters, d.NumberOfBuckets, d.BucketColumns = s.Parameters, s.Buckets, s.BucketBy
	if d.SerdeInfo == nil {
		d.SerdeInfo = &types.SerDeInfo{}
	}
	d.SerdeInfo.SerializationLibrary, d.SerdeInfo.Parameters = aws.String(s.SerDe.Class), s.SerDe.Parameters
	return d
}

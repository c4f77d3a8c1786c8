// Package embedded runs a Kafka broker inside the process, on a loopback address: for trying out and for tests, not for
// keeping data.
package embedded

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/file"
)

// Options are those of Start. Zero values mean the default.
type Options struct {
	Dir            string // where topics are kept between runs, made when it is not there; "" = in memory
	User, Password string // who may come in, by SASL PLAIN or SCRAM; "" = anyone
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	client  *kgo.Client
	admin   *kadm.Client
	parts   map[string]int32 // topics that are known to exist, and their partitions
}

// Start runs a broker with the topics, each of so many partitions. Topics that are there from an earlier run stay as they
// are.
func Start(ctx context.Context, topics map[string]int, o Options) (*Broker, error) {
	opts := []kfake.Opt{kfake.NumBrokers(1)}
	if o.Dir != "" {
		opts = append(opts, kfake.DataDir(o.Dir))
	}
	if o.User != "" {
		opts = append(opts, kfake.EnableSASL())
		for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			opts = append(opts, kfake.Superuser(m, o.User, o.Password))
		}
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	b := &Broker{cluster: cluster, parts: map[string]int32{}}
	client := []kgo.Opt{
		kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(10 * time.Millisecond), // a topic is written to as soon as it is made
	}
	if o.User != "" {
		client = append(client, kgo.SASL(plain.Auth{User: o.User, Pass: o.Password}.AsMechanism()))
	}
	if b.client, err = kgo.NewClient(client...); err != nil {
		cluster.Close()
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	b.admin = kadm.NewClient(b.client)
	for _, t := range slices.Sorted(maps.Keys(topics)) {
		if err := b.Ensure(ctx, t, int32(topics[t])); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

// Addr returns the broker's host:port.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Close stops the broker.
func (b *Broker) Close() {
	b.client.Close()
	b.cluster.Close()
}

// Ensure makes a topic, or gives it more partitions, where it has fewer than so many.
func (b *Broker) Ensure(ctx context.Context, topic string, partitions int32) error {
	if b.parts[topic] >= partitions && partitions > 0 {
		return nil
	}
	found, err := b.admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("look for topic %s: %w", topic, err)
	}
	have := int32(len(found[topic].Partitions))
	switch {
	case !found.Has(topic):
		_, err = b.admin.CreateTopic(ctx, max(1, partitions), 1, nil, topic)
		have = max(1, partitions)
	case have < partitions:
		var r kadm.CreatePartitionsResponses
		if r, err = b.admin.UpdatePartitions(ctx, int(partitions), topic); err == nil {
			err = r.Error()
		}
		have = partitions
	}
	if err != nil {
		return fmt.Errorf("make topic %s: %w", topic, err)
	}
	b.parts[topic] = have
	return nil
}

// Produce appends messages in their order, each to the partition that it names, and returns where each partition now ends.
// Offsets are the broker's own. Topics and partitions that are missing are made.
func (b *Broker) Produce(ctx context.Context, ms ...ingest.Message) (checkpoint.Offsets, error) {
	records := make([]*kgo.Record, len(ms))
	for i, m := range ms {
		if err := b.Ensure(ctx, m.Topic, m.Partition+1); err != nil {
			return nil, err
		}
		records[i] = &kgo.Record{Topic: m.Topic, Partition: m.Partition, Key: m.Key, Value: m.Value, Timestamp: m.Time}
	}
	end := checkpoint.Offsets{}
	for _, r := range b.client.ProduceSync(ctx, records...) {
		if r.Err != nil {
			return end, fmt.Errorf("produce to %s/%d: %w", r.Record.Topic, r.Record.Partition, r.Err)
		}
		end.Set(r.Record.Topic, r.Record.Partition, r.Record.Offset+1)
	}
	return end, nil
}

// Load produces all messages of files (see package file: dumps of topics keep topic, partition, time and exact bytes) and
// returns how many they were.
func (b *Broker) Load(ctx context.Context, paths ...string) (n int, err error) {
	s, err := file.New(file.Options{Paths: paths})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	end, err := s.End(ctx)
	if err != nil {
		return 0, err
	}
	for at := (checkpoint.Offsets{}); !at.Reached(end); {
		ms, err := s.Poll(ctx)
		if err != nil {
			return n, err
		}
		if _, err := b.Produce(ctx, ms...); err != nil {
			return n, err
		}
		for _, m := range ms {
			at.Set(m.Topic, m.Partition, m.Offset+1)
		}
		n += len(ms)
	}
	return n, nil
}

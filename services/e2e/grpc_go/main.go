// A client as grpc-go makes it, with a retry policy and nothing of Spillway's: what it does with a refusal shows whether
// the refusal says the right thing. One unary call with an empty request; a line of JSON says how it went.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Backoffs of the library's own are short, so that a longer pause is the server's.
const policy = `{"methodConfig": [{"name": [{}], "retryPolicy": {
	"maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
	"retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]}}]}`

// attempts remembers when each attempt of the call was sent.
type attempts struct {
	mutex sync.Mutex
	sent  []time.Time
}

func (a *attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (a *attempts) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, sent := event.(*stats.OutHeader); sent {
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.sent = append(a.sent, time.Now())
	}
}

func (a *attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (a *attempts) HandleConn(context.Context, stats.ConnStats) {}

func main() {
	address := flag.String("address", "", "host:port")
	method := flag.String("method", "", "/package.Service/Method")
	token := flag.String("token", "", "for the authorization header")
	timeout := flag.Duration("timeout", time.Minute, "the deadline")
	flag.Parse()

	var seen attempts
	connection, err := grpc.NewClient(*address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(policy),
		grpc.WithStatsHandler(&seen))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer connection.Close()
	connection.Connect()
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", *token)
	began := time.Now()
	err = connection.Invoke(ctx, *method, &emptypb.Empty{}, &emptypb.Empty{})
	took := time.Since(began)

	seen.mutex.Lock()
	defer seen.mutex.Unlock()
	pauses := []int64{}
	for n := 1; n < len(seen.sent); n++ {
		pauses = append(pauses, seen.sent[n].Sub(seen.sent[n-1]).Milliseconds())
	}
	said := map[string]any{
		"code": status.Code(err).String(), "text": status.Convert(err).Message(),
		"attempts": len(seen.sent), "pauses_ms": pauses, "took_ms": took.Milliseconds(),
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

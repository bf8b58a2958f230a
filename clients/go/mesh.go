package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "example.com/venuemesh/gen/venuemesh/v1"
)

const (
	readBackAttempts  = 10
	readBackPause     = 300 * time.Millisecond
	reconnectAttempts = 5
	reconnectPause    = 200 * time.Millisecond
)

// Deadlines and repeats of the contract, put beside the stubs by the build.
//
//go:embed gen/service_config.json
var serviceConfig string

// Settings say where the mesh is and what to trade.
type Settings struct {
	Router, Aggregator               string
	CAFile, TokenFile                string
	Account, Venue, Symbol, Quantity string
}

// SettingsFromEnvironment reads VENUEMESH_...; defaults are those of the local mesh.
func SettingsFromEnvironment() Settings {
	setting := func(name, otherwise string) string {
		if value, ok := os.LookupEnv("VENUEMESH_" + name); ok {
			return value
		}
		return otherwise
	}
	return Settings{
		Router:     setting("ROUTER", "127.0.0.1:50050"),
		Aggregator: setting("AGGREGATOR", "127.0.0.1:50060"),
		CAFile:     setting("CA_FILE", ""),
		TokenFile:  setting("TOKEN_FILE", ""),
		Account:    setting("ACCOUNT", "main"),
		Venue:      setting("VENUE", "hyperliquid"),
		Symbol:     setting("SYMBOL", "BTC/USDC:USDC"),
		Quantity:   setting("QUANTITY", "0.001"),
	}
}

// Connect opens a channel with the contract's deadlines and repeats; TLS and token where they are set.
func Connect(target string, settings Settings) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
	}
	if settings.CAFile == "" {
		if settings.TokenFile != "" {
			return nil, errors.New("VENUEMESH_TOKEN_FILE needs VENUEMESH_CA_FILE: a token goes over TLS only")
		}
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
		return grpc.NewClient(target, options...)
	}
	tls, err := credentials.NewClientTLSFromFile(settings.CAFile, "")
	if err != nil {
		return nil, err
	}
	options = append(options, grpc.WithTransportCredentials(tls))
	if settings.TokenFile != "" {
		text, err := os.ReadFile(settings.TokenFile)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer(strings.TrimSpace(string(text)))))
	}
	return grpc.NewClient(target, options...)
}

type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// ErrOutcomeUnknown means that the order may be live. Only the same key may be submitted again.
var ErrOutcomeUnknown = errors.New("the outcome is unknown")

// Submit sends an order once and says what became of it. An answer that is lost is read back, never replaced by
// another submit. Any error but ErrOutcomeUnknown means that nothing was sent.
func Submit(ctx context.Context, orders pb.OrderServiceClient, order *pb.NewOrder) (*pb.Order, error) {
	answer, err := orders.SubmitOrder(ctx, &pb.SubmitOrderRequest{Order: order})
	switch {
	case err != nil && provedNotSent(err):
		return nil, err
	case err != nil:
		fmt.Printf("submit: %s answer lost, %s; reading back\n", order.ClientOrderId, codeName(err))
		return readBack(ctx, orders, order)
	case answer.Outcome == pb.SubmitOutcome_SUBMIT_OUTCOME_UNKNOWN,
		answer.Outcome == pb.SubmitOutcome_SUBMIT_OUTCOME_PENDING:
		fmt.Printf("submit: %s not settled yet; reading back\n", order.ClientOrderId)
		return readBack(ctx, orders, order)
	}
	return answer.Order, nil
}

func readBack(ctx context.Context, orders pb.OrderServiceClient, order *pb.NewOrder) (*pb.Order, error) {
	request := &pb.GetOrderRequest{Reference: &pb.OrderReference{
		AccountId: order.AccountId,
		Venue:     order.Venue,
		Id:        &pb.OrderReference_ClientOrderId{ClientOrderId: order.ClientOrderId},
	}}
	for range readBackAttempts {
		answer, err := orders.GetOrder(ctx, request)
		if err != nil {
			// NotFound proves nothing: the submit may still be on its way.
			fmt.Printf("submit: %s read back failed, %s\n", order.ClientOrderId, codeName(err))
		} else if !answer.Order.Uncertain && answer.Order.Status != pb.OrderStatus_ORDER_STATUS_PENDING_NEW {
			return answer.Order, nil
		}
		select {
		case <-time.After(readBackPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", order.ClientOrderId, ErrOutcomeUnknown)
		}
	}
	return nil, fmt.Errorf("%s: %w", order.ClientOrderId, ErrOutcomeUnknown)
}

// provedNotSent tells whether the mesh itself says that no order was attempted; anything else counts as unknown.
func provedNotSent(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "venuemesh" {
			return info.Metadata["sent"] == "no"
		}
	}
	return false
}

// codeName is the code as the other languages write it: DEADLINE_EXCEEDED.
func codeName(err error) string {
	switch code := status.Code(err); code {
	case codes.DeadlineExceeded:
		return "DEADLINE_EXCEEDED"
	case codes.NotFound:
		return "NOT_FOUND"
	default:
		return strings.ToUpper(code.String())
	}
}

// Executions gives the execution reports of an account at a venue, each once and in order, over any number of
// connections.
type Executions struct {
	// Position of the last message handled. Written to a file, it resumes after a crash too.
	Position *pb.StreamPosition

	orders         pb.OrderServiceClient
	account, venue string
	stream         grpc.ServerStreamingClient[pb.StreamExecutionReportsResponse]
	cancel         context.CancelFunc
}

// FollowExecutions takes the orders that are open now, without reporting them.
func FollowExecutions(
	ctx context.Context, orders pb.OrderServiceClient, account, venue string,
) (*Executions, error) {
	executions := &Executions{orders: orders, account: account, venue: venue}
	for {
		message, err := executions.next(ctx)
		if err != nil {
			return nil, err
		}
		if message.GetSnapshotEnd() != nil {
			fmt.Printf("executions: following from sequence %d\n", executions.Position.GetSequence())
			return executions, nil
		}
	}
}

// NextReport waits for the next report. It fails when the stream is refused or cannot be had again.
func (e *Executions) NextReport(ctx context.Context) (*pb.ExecutionReport, error) {
	for {
		message, err := e.next(ctx)
		if err != nil {
			return nil, err
		}
		if report := message.GetEvent().GetExecutionReport(); report != nil {
			return report, nil
		}
	}
}

// Cut drops the connection; the next report is the one behind what was handled.
func (e *Executions) Cut() {
	e.drop()
	fmt.Printf("executions: cut at sequence %d\n", e.Position.GetSequence())
}

func (e *Executions) next(ctx context.Context) (*pb.StreamExecutionReportsResponse, error) {
	failures := 0
	for {
		message, err := e.receive(ctx)
		if err == nil && message.GetClosing() == nil && e.follows(message) {
			return message, nil
		}
		why := "the server closed the stream"
		if err != nil && !errors.Is(err, io.EOF) {
			failures++
			if status.Code(err) != codes.Unavailable || failures > reconnectAttempts {
				return nil, err
			}
			why = codeName(err)
		}
		fmt.Printf("executions: lost at sequence %d, %s\n", e.Position.GetSequence(), why)
		e.drop()
		time.Sleep(reconnectPause)
	}
}

func (e *Executions) receive(ctx context.Context) (*pb.StreamExecutionReportsResponse, error) {
	if e.stream == nil {
		ctx, cancel := context.WithCancel(ctx)
		stream, err := e.orders.StreamExecutionReports(ctx, &pb.StreamExecutionReportsRequest{
			AccountId: e.account,
			Venue:     e.venue,
			Options:   &pb.StreamOptions{ResumeAfter: e.Position},
		})
		if err != nil {
			cancel()
			return nil, err
		}
		e.stream, e.cancel = stream, cancel
	}
	return e.stream.Recv()
}

func (e *Executions) drop() {
	if e.cancel != nil {
		e.cancel()
	}
	e.stream, e.cancel = nil, nil
}

// follows takes the message's place in the numbering; false when one before it is missing.
func (e *Executions) follows(message *pb.StreamExecutionReportsResponse) bool {
	header := message.GetHeader()
	if acknowledgement := message.GetAcknowledgement(); acknowledgement != nil {
		if acknowledgement.ResumeOutcome == pb.ResumeOutcome_RESUME_OUTCOME_RESUMED {
			fmt.Printf("executions: resumed after sequence %d\n", e.Position.GetSequence())
		} else if e.Position != nil {
			// A snapshot follows. What ended in between is not in it: read ListOrders and ListFills.
			fmt.Printf("executions: not resumed, %s\n", acknowledgement.ResumeNote)
			e.Position = nil
		}
		return true
	}
	if header.GetSequence() == 0 {
		return true
	}
	previous := header.GetPreviousSequence()
	if e.Position != nil && previous != 0 && previous != e.Position.Sequence {
		return false
	}
	e.Position = &pb.StreamPosition{Epoch: header.Epoch, Sequence: header.Sequence}
	return true
}

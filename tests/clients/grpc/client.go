package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// For anything that has to happen: far above what is measured.
	patience = 30 * time.Second
	// A check waits for its end; far longer than a call takes to arrive, also where the machine stands still for a moment.
	deadline = 5 * time.Second
	// Not plain ASCII, with a percent sign: grpc-message is escaped.
	refusalMessage = "verblaßt, 100% – at line\n2"
	together       = 100
	pieces         = 200
)

// client is one connection; service is the name that its calls go to.
type client struct {
	connection *grpc.ClientConn
	service    string
}

func dial(address, ca, service string) (*client, error) {
	transport := insecure.NewCredentials()
	if ca != "-" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return nil, err
		}
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport), grpc.WithNoProxy())
	return &client{connection, service}, err
}

// start is the context of one call: the RPT, the client's own metadata, and an end.
func start(own ...string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if rpt := os.Getenv("RPT"); rpt != "" {
		own = append(own, "authorization", "Bearer "+rpt)
	}
	return metadata.AppendToOutgoingContext(ctx, own...), cancel
}

func (peer *client) unary(ctx context.Context, method string, value []byte, options ...grpc.CallOption) ([]byte, error) {
	answer := new(bytesValue)
	err := peer.connection.Invoke(ctx, "/"+peer.service+"/"+method, wrapperspb.Bytes(value), answer, options...)
	return answer.Value, err
}

// stream opens a stream and, where the client sends one message only, sends that.
func (peer *client) stream(ctx context.Context, method string, kind grpc.StreamDesc, value []byte) (grpc.ClientStream, error) {
	calls, err := peer.connection.NewStream(ctx, &kind, "/"+peer.service+"/"+method)
	if err != nil || kind.ClientStreams {
		return calls, err
	}
	return calls, errors.Join(calls.SendMsg(wrapperspb.Bytes(value)), calls.CloseSend())
}

// receive reads to the end: what came, and the error if that was not the regular one.
func receive(calls grpc.ClientStream) (values [][]byte, err error) {
	for {
		answer := new(bytesValue)
		if err := calls.RecvMsg(answer); err == io.EOF {
			return values, nil
		} else if err != nil {
			return values, err
		}
		values = append(values, answer.Value)
	}
}

func callOnce(address, ca, path string) error {
	peer, err := dial(address, ca, "")
	if err != nil {
		return err
	}
	ctx, cancel := start()
	defer cancel()
	var header, trailer metadata.MD
	err = peer.connection.Invoke(ctx, "/"+path, wrapperspb.Bytes([]byte("one")), new(bytesValue), grpc.Header(&header), grpc.Trailer(&trailer))
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"code": status.Code(err).String(), "message": status.Convert(err).Message(), "header": header, "trailer": trailer,
	})
}

func check(what string, good bool, came ...any) {
	text := fmt.Sprint(came...)
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"what": what, "good": good, "came": text[:min(len(text), 500)]})
}

func walk(address, ca, service string) error {
	peer, err := dial(address, ca, service)
	if err != nil {
		return err
	}
	peer.unaryCalls()
	peer.serverStreams()
	peer.clientStream()
	peer.bothWays()
	peer.ends()
	return nil
}

func random(size int) []byte {
	value := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(value)
	return value
}

// own is metadata of the client's: a name that comes twice, and octets that are no text.
var own = []string{"photo", "beach", "photo", "dunes", "photo-bin", "\x00\xff\n"}

func relayed(prefix string, held metadata.MD) bool {
	return reflect.DeepEqual(held[prefix+"-photo"], []string{"beach", "dunes"}) && reflect.DeepEqual(held[prefix+"-photo-bin"], []string{"\x00\xff\n"})
}

func (peer *client) unaryCalls() {
	ctx, cancel := start(own...)
	defer cancel()
	var header, trailer metadata.MD
	value, err := peer.unary(ctx, "Echo", []byte("beach"), grpc.Header(&header), grpc.Trailer(&trailer))
	check("a unary call is answered", err == nil && string(value) == "beach", err, value)
	check("metadata reaches the server, and its header the client", relayed("header", header), header)
	check("metadata reaches the client in the trailer", relayed("trailer", trailer), trailer)

	large := random(1 << 20)
	value, err = peer.unary(ctx, "Echo", large)
	check("1 MiB goes both ways", err == nil && bytes.Equal(value, large), err, len(value))
	value, err = peer.unary(ctx, "Echo", nil)
	check("an empty message likewise", err == nil && len(value) == 0, err, value)

	errs := make([]error, together)
	var all sync.WaitGroup
	for number := range errs {
		all.Go(func() {
			sent := random(1000 + number)
			value, err := peer.unary(ctx, "Echo", sent)
			if err == nil && !bytes.Equal(value, sent) {
				err = errors.New("another answer")
			}
			errs[number] = err
		})
	}
	all.Wait()
	failed := errors.Join(errs...)
	check(fmt.Sprintf("%d calls at once each get their own answer", together), failed == nil, failed)

	_, err = peer.unary(ctx, "Refuse", []byte("why"), grpc.Trailer(&trailer))
	refusal := status.Convert(err)
	check("the server's error is the client's, with its message", refusal.Code() == codes.FailedPrecondition && refusal.Message() == refusalMessage, err)
	details := refusal.Details()
	wanted := []proto.Message{&errdetails.ErrorInfo{Reason: "FADED", Domain: "photoz"}, wrapperspb.Bytes([]byte("why"))}
	same := len(details) == len(wanted)
	for at := 0; same && at < len(wanted); at++ {
		detail, ok := details[at].(proto.Message)
		same = ok && proto.Equal(detail, wanted[at])
	}
	check("its details as well", same, details)
	check("and the trailer that came with it", relayed("trailer", trailer), trailer)
	_, err = peer.unary(ctx, "Nothing", nil)
	refusal = status.Convert(err)
	unknown := refusal.Code() == codes.Unimplemented && refusal.Message() == "unknown method Nothing for service "+peer.service
	check("the server's own word on a method that it does not know", unknown, err)
}

func (peer *client) serverStreams() {
	ctx, cancel := start(own...)
	defer cancel()
	kind := grpc.StreamDesc{ServerStreams: true}
	calls, err := peer.stream(ctx, "Count", kind, make([]byte, pieces))
	var values [][]byte
	if err == nil {
		values, err = receive(calls)
	}
	same := len(values) == pieces
	for at := 0; same && at < pieces; at++ {
		same = bytes.Equal(values[at], piece(at).Value)
	}
	check(fmt.Sprintf("a stream of the server: %d messages in order", pieces), err == nil && same, err, len(values))
	check("and the trailer after it", err == nil && relayed("trailer", calls.Trailer()), err)

	calls, err = peer.stream(ctx, "Break", kind, nil)
	if err == nil {
		values, err = receive(calls)
	}
	check("a stream that fails half-way: what came before, and the status", len(values) == 3 && status.Code(err) == codes.DataLoss, len(values), err)
}

func (peer *client) clientStream() {
	ctx, cancel := start()
	defer cancel()
	calls, err := peer.stream(ctx, "Sum", grpc.StreamDesc{ClientStreams: true}, nil)
	hash := sha256.New()
	for number := 0; err == nil && number < pieces; number++ {
		hash.Write(piece(number).Value)
		err = calls.SendMsg(piece(number))
	}
	answer := new(bytesValue)
	if err == nil {
		err = errors.Join(calls.CloseSend(), calls.RecvMsg(answer))
	}
	wanted := fmt.Sprintf("%d %x", pieces, hash.Sum(nil))
	check(fmt.Sprintf("a stream of the client: %d messages arrive", pieces), err == nil && string(answer.Value) == wanted, err, answer)
}

func (peer *client) bothWays() {
	ctx, cancel := start(own...)
	defer cancel()
	calls, err := peer.stream(ctx, "Talk", grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, nil)
	var header metadata.MD
	if err == nil {
		// Before the first message: a gateway that waited for one would never get it.
		header, err = calls.Header()
	}
	check("both ways: the header comes before any message", err == nil && relayed("header", header), err, header)
	number := 0
	for ; err == nil && number < pieces; number++ {
		sent, answer := strconv.Itoa(number), new(bytesValue)
		err = errors.Join(calls.SendMsg(wrapperspb.Bytes([]byte(sent))), calls.RecvMsg(answer))
		if err == nil && string(answer.Value) != "re: "+sent {
			err = fmt.Errorf("%q", answer.Value)
		}
	}
	check("both ways: each message is answered before the next is sent", err == nil, number, err)
	if err == nil {
		if err = calls.CloseSend(); err == nil {
			_, err = receive(calls)
		}
	}
	check("both ways: the client's end is the stream's, with its trailer", err == nil && relayed("trailer", calls.Trailer()), err)
}

// ends are those that the client makes; the server says how it heard of them.
func (peer *client) ends() {
	begin := func(ctx context.Context, id string) (string, grpc.ClientStream, error) {
		answer := new(bytesValue)
		calls, err := peer.stream(ctx, "Wait", grpc.StreamDesc{ServerStreams: true}, []byte(id))
		if err == nil {
			err = calls.RecvMsg(answer)
		}
		return string(answer.Value), calls, err
	}
	ended := func(id string) string {
		ctx, cancel := start()
		defer cancel()
		how, err := peer.unary(ctx, "Ended", []byte(id))
		return string(how) + fmt.Sprint(err)
	}
	id := func(kind string) string { return fmt.Sprintf("%s %d", kind, rand.Int63()) }

	ctx, cancel := start()
	cancelled := id("cancelled")
	_, calls, err := begin(ctx, cancelled)
	check("a call under way can be waited for", err == nil, err)
	cancel()
	if err == nil {
		err = calls.RecvMsg(new(bytesValue))
	}
	check("a call that the client cancels is cancelled", status.Code(err) == codes.Canceled, err)
	how := ended(cancelled)
	check("and the server hears of it", how == context.Canceled.Error()+"<nil>", how)

	ctx, cancel = start()
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, deadline)
	defer cancel()
	late := id("late")
	left, calls, err := begin(ctx, late)
	milliseconds, wrong := strconv.Atoi(left)
	check("the server knows the deadline", err == nil && wrong == nil && 0 < milliseconds && milliseconds <= int(deadline.Milliseconds()), left, err)
	if err == nil {
		err = calls.RecvMsg(new(bytesValue))
	}
	check("a call that takes longer is DEADLINE_EXCEEDED", status.Code(err) == codes.DeadlineExceeded, err)
	how = ended(late)
	over := how == context.DeadlineExceeded.Error()+"<nil>" || how == context.Canceled.Error()+"<nil>"
	check("and over at the server", over, how)
}

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The names that the one service goes by: a route leads each to a server of its own.
var services = []string{"photoz.Plain", "photoz.Secure"}

// Octets of a message of a stream: all together are far more than what HTTP/2 lets one side send before the other has read.
const pieceSize = 64 << 10

type bytesValue = wrapperspb.BytesValue

// server knows only the gateway, and remembers how the calls ended that have an id.
type server struct {
	credential string
	mutex      sync.Mutex
	ends       map[string]chan string
}

func serve(plain, secure, certificate, key string) error {
	album := &server{credential: os.Getenv("CREDENTIAL"), ends: map[string]chan string{}}
	pair, err := credentials.NewServerTLSFromFile(certificate, key)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for address, more := range map[string][]grpc.ServerOption{plain: nil, secure: {grpc.Creds(pair)}} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		one := grpc.NewServer(append(more, grpc.UnaryInterceptor(album.unary), grpc.StreamInterceptor(album.stream))...)
		for _, name := range services {
			one.RegisterService(description(name), album)
		}
		go func() { failed <- one.Serve(listener) }()
	}
	return <-failed
}

func description(name string) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: name,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			method(name, "Echo", (*server).echo), method(name, "Store", (*server).echo),
			method(name, "Refuse", (*server).refuse), method(name, "Ended", (*server).ended),
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Count", Handler: stream((*server).count), ServerStreams: true},
			{StreamName: "Break", Handler: stream((*server).breakOff), ServerStreams: true},
			{StreamName: "Wait", Handler: stream((*server).wait), ServerStreams: true},
			{StreamName: "Sum", Handler: stream((*server).sum), ClientStreams: true},
			{StreamName: "Talk", Handler: stream((*server).talk), ServerStreams: true, ClientStreams: true},
		},
	}
}

func method(service, name string, handle func(*server, context.Context, *bytesValue) (*bytesValue, error)) grpc.MethodDesc {
	handler := func(self any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		request := new(bytesValue)
		if err := decode(request); err != nil {
			return nil, err
		}
		return intercept(ctx, request, &grpc.UnaryServerInfo{Server: self, FullMethod: "/" + service + "/" + name},
			func(ctx context.Context, request any) (any, error) {
				return handle(self.(*server), ctx, request.(*bytesValue))
			})
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

func stream(handle func(*server, grpc.ServerStream) error) grpc.StreamHandler {
	return func(self any, calls grpc.ServerStream) error { return handle(self.(*server), calls) }
}

func (album *server) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := album.admit(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (album *server) stream(self any, calls grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := album.admit(calls.Context()); err != nil {
		return err
	}
	return handle(self, calls)
}

func (album *server) admit(ctx context.Context) error {
	held := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(held) != 1 || held[0] != album.credential {
		return status.Error(codes.Unauthenticated, "it knows only the gateway")
	}
	return nil
}

// reply says in the header and in the trailer what came as the client's own metadata.
func reply(ctx context.Context) (header, trailer metadata.MD) {
	header, trailer = metadata.MD{}, metadata.MD{}
	for _, name := range []string{"photo", "photo-bin"} {
		for _, value := range metadata.ValueFromIncomingContext(ctx, name) {
			header.Append("header-"+name, value)
			trailer.Append("trailer-"+name, value)
		}
	}
	return header, trailer
}

func (album *server) echo(ctx context.Context, request *bytesValue) (*bytesValue, error) {
	header, trailer := reply(ctx)
	if err := grpc.SetHeader(ctx, header); err != nil {
		return nil, err
	}
	return request, grpc.SetTrailer(ctx, trailer)
}

// refuse answers with a status that has details: one of a known type, and the message that came.
func (album *server) refuse(ctx context.Context, request *bytesValue) (*bytesValue, error) {
	_, trailer := reply(ctx)
	if err := grpc.SetTrailer(ctx, trailer); err != nil {
		return nil, err
	}
	refusal, err := status.New(codes.FailedPrecondition, refusalMessage).WithDetails(&errdetails.ErrorInfo{Reason: "FADED", Domain: "photoz"}, request)
	if err != nil {
		return nil, err
	}
	return nil, refusal.Err()
}

// count sends as many pieces as the request has octets.
func (album *server) count(calls grpc.ServerStream) error {
	request := new(bytesValue)
	if err := calls.RecvMsg(request); err != nil {
		return err
	}
	_, trailer := reply(calls.Context())
	calls.SetTrailer(trailer)
	for number := range request.Value {
		if err := calls.SendMsg(piece(number)); err != nil {
			return err
		}
	}
	return nil
}

func piece(number int) *bytesValue {
	value := make([]byte, pieceSize)
	for at := range value {
		value[at] = byte(number + at)
	}
	return wrapperspb.Bytes(value)
}

// breakOff fails after three pieces.
func (album *server) breakOff(calls grpc.ServerStream) error {
	for number := range 3 {
		if err := calls.SendMsg(piece(number)); err != nil {
			return err
		}
	}
	return status.Error(codes.DataLoss, "the album ends here")
}

// sum answers with the number and the SHA-256 of what came, once that is all.
func (album *server) sum(calls grpc.ServerStream) error {
	hash, number := sha256.New(), 0
	for ; ; number++ {
		request := new(bytesValue)
		if err := calls.RecvMsg(request); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		hash.Write(request.Value)
	}
	return calls.SendMsg(wrapperspb.Bytes(fmt.Appendf(nil, "%d %x", number, hash.Sum(nil))))
}

// talk answers each message at once.
func (album *server) talk(calls grpc.ServerStream) error {
	header, trailer := reply(calls.Context())
	if err := calls.SendHeader(header); err != nil {
		return err
	}
	calls.SetTrailer(trailer)
	for {
		request := new(bytesValue)
		if err := calls.RecvMsg(request); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := calls.SendMsg(wrapperspb.Bytes(append([]byte("re: "), request.Value...))); err != nil {
			return err
		}
	}
}

// wait says that it was reached and how long it has, and then waits until the client has enough of it. The request is an id, for `ended`.
func (album *server) wait(calls grpc.ServerStream) error {
	request := new(bytesValue)
	if err := calls.RecvMsg(request); err != nil {
		return err
	}
	left := "no deadline"
	if deadline, ok := calls.Context().Deadline(); ok {
		left = fmt.Sprint(time.Until(deadline).Milliseconds())
	}
	if err := calls.SendMsg(wrapperspb.Bytes([]byte(left))); err != nil {
		return err
	}
	<-calls.Context().Done()
	album.end(string(request.Value)) <- calls.Context().Err().Error()
	return status.FromContextError(calls.Context().Err()).Err()
}

// ended waits until the call with this id is over and says how that came.
func (album *server) ended(ctx context.Context, request *bytesValue) (*bytesValue, error) {
	select {
	case how := <-album.end(string(request.Value)):
		return wrapperspb.Bytes([]byte(how)), nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (album *server) end(id string) chan string {
	album.mutex.Lock()
	defer album.mutex.Unlock()
	if album.ends[id] == nil {
		album.ends[id] = make(chan string, 1)
	}
	return album.ends[id]
}

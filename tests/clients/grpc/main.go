// A gRPC server and a client of it, which tests/clients/grpc_go.py sends through the gateway.
//
//	grpc server PLAIN TLS CERTIFICATE KEY        serves both addresses until it is ended; CREDENTIAL is whom it knows
//	grpc call ADDRESS CA SERVICE/METHOD          one unary call: prints code, message, header and trailer as JSON
//	grpc walk ADDRESS CA SERVICE                 all kinds of calls: prints {"what", "good", "came"} a line
//
// CA is a file, or `-` for HTTP/2 without TLS. RPT is the client's token, if it has one.
package main

import (
	"fmt"
	"os"
)

func main() {
	arguments := os.Args[1:]
	err := fmt.Errorf("grpc server PLAIN TLS CERTIFICATE KEY | call ADDRESS CA SERVICE/METHOD | walk ADDRESS CA SERVICE")
	switch {
	case len(arguments) == 5 && arguments[0] == "server":
		err = serve(arguments[1], arguments[2], arguments[3], arguments[4])
	case len(arguments) == 4 && arguments[0] == "call":
		err = callOnce(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 4 && arguments[0] == "walk":
		err = walk(arguments[1], arguments[2], arguments[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Embeds texts: go run . localhost:50051 "a cat on a mat" "a feline on a rug".
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "example.com/embed/gen/go/unitvec/v1"
)

const maxMessageBytes = 64 << 20 // gRPC's own is 4 MiB

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: embed HOST:PORT TEXT...")
	}
	conn, err := grpc.NewClient(
		os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	vectors, err := embed(pb.NewEmbeddingServiceClient(conn), os.Args[2:])
	if err != nil {
		log.Fatal(err)
	}
	for _, vector := range vectors {
		fmt.Println(vector)
	}
}

// embed returns one unit vector for each text.
func embed(client pb.EmbeddingServiceClient, texts []string) ([][]float32, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var trailer metadata.MD
	reply, err := client.Embed(ctx, &pb.EmbedRequest{Texts: texts}, grpc.Trailer(&trailer))
	if err != nil {
		return nil, describe(err, trailer)
	}
	return rows(reply.GetEmbeddings()), nil
}

// rows returns the rows of a float32 matrix, which travels as flat little-endian bytes.
func rows(matrix *pb.Matrix) [][]float32 {
	rows := make([][]float32, matrix.GetRows())
	data := matrix.GetData()
	for i := range rows {
		rows[i] = make([]float32, matrix.GetDim())
		for j := range rows[i] {
			rows[i][j] = math.Float32frombits(binary.LittleEndian.Uint32(data))
			data = data[4:]
		}
	}
	return rows
}

// describe adds what the server says in its trailer: the reason and the field at fault.
func describe(err error, trailer metadata.MD) error {
	values := trailer.Get("unitvec-error-bin")
	var facts pb.Error
	if len(values) == 0 || proto.Unmarshal([]byte(values[0]), &facts) != nil {
		return err
	}
	return fmt.Errorf("%s: %w (field %s, try again in %d ms)",
		facts.GetReason(), err, facts.GetField(), facts.GetRetryDelayMs())
}

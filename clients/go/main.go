// Command generate makes one picture and writes it; see docs/11-clients.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"

	atelier "example.com/atelier/v1"
)

func generate(target, prompt, path string) error {
	connection, err := grpc.Dial(target, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	seed := uint64(42)
	stream, err := atelier.NewImageGenerationServiceClient(connection).Generate(ctx, &atelier.GenerateRequest{
		Prompt: prompt,
		Style:  atelier.Style_STYLE_LUXURY,
		Seed:   &seed,
	})
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return file.Close()
		}
		if err != nil {
			return err
		}
		switch event := response.Event.(type) {
		case *atelier.GenerateResponse_Progress:
			fmt.Fprintf(os.Stderr, "\rstep %d/%d ", event.Progress.Step, event.Progress.TotalSteps)
		case *atelier.GenerateResponse_ImageChunk:
			if _, err := file.Write(event.ImageChunk.Data); err != nil {
				return err
			}
		case *atelier.GenerateResponse_ImageCompleted:
			size := event.ImageCompleted.Dimensions
			fmt.Printf("%s %dx%d seed %d\n", path, size.Width, size.Height, event.ImageCompleted.Seed)
		}
	}
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: generate HOST:PORT PROMPT FILE")
		os.Exit(2)
	}
	if err := generate(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

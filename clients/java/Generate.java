import atelier.v1.Common.Style;
import atelier.v1.ImageGeneration.GenerateRequest;
import atelier.v1.ImageGeneration.GenerateResponse;
import atelier.v1.ImageGeneration.ImageCompleted;
import atelier.v1.ImageGenerationServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;

/** Generate HOST:PORT PROMPT FILE: makes one picture and writes it; see docs/11-clients.md. */
public final class Generate {
  public static void main(String[] words) throws IOException {
    if (words.length != 3) {
      System.err.println("usage: Generate HOST:PORT PROMPT FILE");
      System.exit(2);
    }
    ManagedChannel channel = NettyChannelBuilder.forTarget(words[0]).usePlaintext().build();
    GenerateRequest request =
        GenerateRequest.newBuilder().setPrompt(words[1]).setStyle(Style.STYLE_LUXURY).setSeed(42).build();
    try (OutputStream file = new FileOutputStream(words[2])) {
      Iterator<GenerateResponse> events =
          ImageGenerationServiceGrpc.newBlockingStub(channel)
              .withDeadlineAfter(10, TimeUnit.MINUTES)
              .generate(request);
      while (events.hasNext()) {
        hear(events.next(), file, words[2]);
      }
    } catch (StatusRuntimeException error) {
      System.err.println(error.getStatus().getDescription());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  private static void hear(GenerateResponse event, OutputStream file, String path) throws IOException {
    switch (event.getEventCase()) {
      case PROGRESS:
        System.err.printf("\rstep %d/%d ", event.getProgress().getStep(), event.getProgress().getTotalSteps());
        break;
      case IMAGE_CHUNK:
        event.getImageChunk().getData().writeTo(file);
        break;
      case IMAGE_COMPLETED:
        ImageCompleted done = event.getImageCompleted();
        System.out.printf(
            "%s %dx%d seed %s%n",
            path,
            done.getDimensions().getWidth(),
            done.getDimensions().getHeight(),
            Long.toUnsignedString(done.getSeed()));
        break;
      default:
        break;
    }
  }
}

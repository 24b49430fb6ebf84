import com.unitvec.v1.EmbedRequest;
import com.unitvec.v1.EmbeddingServiceGrpc;
import com.unitvec.v1.EmbeddingServiceGrpc.EmbeddingServiceBlockingStub;
import com.unitvec.v1.Matrix;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;

/** Embeds texts: {@code java Embed localhost:50051 "a cat on a mat" "bank loan"}. */
public final class Embed {
  private static final int MAX_MESSAGE_BYTES = 64 << 20; // gRPC's own is 4 MiB
  private static final Metadata.Key<com.unitvec.v1.Error> ERROR =
      Metadata.Key.of(
          "unitvec-error-bin",
          ProtoUtils.metadataMarshaller(com.unitvec.v1.Error.getDefaultInstance()));

  public static void main(String[] args) {
    if (args.length < 2) {
      System.err.println("usage: java Embed HOST:PORT TEXT...");
      System.exit(2);
    }
    ManagedChannel channel =
        Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create())
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .build();
    try {
      String[] texts = Arrays.copyOfRange(args, 1, args.length);
      for (float[] vector : embed(EmbeddingServiceGrpc.newBlockingStub(channel), texts)) {
        System.out.println(Arrays.toString(vector));
      }
    } catch (StatusRuntimeException e) {
      System.err.println(describe(e));
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  /** Returns one unit vector for each text. */
  static float[][] embed(EmbeddingServiceBlockingStub stub, String... texts) {
    EmbedRequest request = EmbedRequest.newBuilder().addAllTexts(Arrays.asList(texts)).build();
    return rows(stub.withDeadlineAfter(30, TimeUnit.SECONDS).embed(request).getEmbeddings());
  }

  /** Returns the rows of a float32 matrix, which travels as flat little-endian bytes. */
  static float[][] rows(Matrix matrix) {
    FloatBuffer values =
        matrix.getData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    float[][] rows = new float[matrix.getRows()][matrix.getDim()];
    for (float[] row : rows) {
      values.get(row);
    }
    return rows;
  }

  /** Says what went wrong; a server's answer names the reason and the field at fault. */
  static String describe(StatusRuntimeException e) {
    Metadata trailers = e.getTrailers();
    com.unitvec.v1.Error error = trailers == null ? null : trailers.get(ERROR);
    if (error == null) {
      return e.getCause() == null ? e.getMessage() : e.getMessage() + ": " + e.getCause();
    }
    return String.format(
        "%s %s: %s (field %s, try again in %d ms)",
        e.getStatus().getCode(),
        error.getReason(),
        error.getMessage(),
        error.getField(),
        error.getRetryDelayMs());
  }
}

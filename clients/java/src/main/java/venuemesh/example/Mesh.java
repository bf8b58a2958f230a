package venuemesh.example;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import venuemesh.v1.OrderOuterClass.NewOrder;
import venuemesh.v1.OrderOuterClass.Order;
import venuemesh.v1.OrderOuterClass.OrderStatus;
import venuemesh.v1.OrderServiceGrpc.OrderServiceBlockingV2Stub;
import venuemesh.v1.OrderServiceOuterClass.GetOrderRequest;
import venuemesh.v1.OrderServiceOuterClass.OrderReference;
import venuemesh.v1.OrderServiceOuterClass.SubmitOrderRequest;
import venuemesh.v1.OrderServiceOuterClass.SubmitOrderResponse;
import venuemesh.v1.OrderServiceOuterClass.SubmitOutcome;

/** What every client of the mesh needs: a channel, and a submit that never guesses. */
final class Mesh {
    private static final long CONNECT_LIMIT_S = 5;
    private static final int READ_BACK_ATTEMPTS = 10;
    private static final long READ_BACK_PAUSE_MS = 300;

    private Mesh() {}

    /** Where the mesh is and what to trade. */
    record Settings(
            String router,
            String aggregator,
            String caFile,
            String tokenFile,
            String account,
            String venue,
            String symbol,
            String quantity) {

        /** Reads VENUEMESH_...; defaults are those of the local mesh. */
        static Settings fromEnvironment() {
            return new Settings(
                    setting("ROUTER", "127.0.0.1:50050"),
                    setting("AGGREGATOR", "127.0.0.1:50060"),
                    setting("CA_FILE", ""),
                    setting("TOKEN_FILE", ""),
                    setting("ACCOUNT", "main"),
                    setting("VENUE", "hyperliquid"),
                    setting("SYMBOL", "BTC/USDC:USDC"),
                    setting("QUANTITY", "0.001"));
        }

        private static String setting(String name, String otherwise) {
            return System.getenv().getOrDefault("VENUEMESH_" + name, otherwise);
        }
    }

    /** A channel with the contract's deadlines and repeats; TLS and token where they are set. */
    static ManagedChannel connect(String target, Settings settings) throws IOException, InterruptedException {
        boolean secured = !settings.caFile().isEmpty();
        if (!secured && !settings.tokenFile().isEmpty()) {
            throw new IOException("VENUEMESH_TOKEN_FILE needs VENUEMESH_CA_FILE: a token goes over TLS only");
        }
        ChannelCredentials credentials = secured
                ? TlsChannelCredentials.newBuilder().trustManager(new File(settings.caFile())).build()
                : InsecureChannelCredentials.create();
        var builder = Grpc.newChannelBuilder(target, credentials)
                .defaultServiceConfig(serviceConfig())
                .keepAliveTime(20, TimeUnit.SECONDS)
                .keepAliveTimeout(5, TimeUnit.SECONDS);
        if (!settings.tokenFile().isEmpty()) {
            var headers = new Metadata();
            headers.put(
                    Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
                    "Bearer " + Files.readString(Path.of(settings.tokenFile())).strip());
            builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
        }
        ManagedChannel channel = builder.build();
        awaitConnection(channel);
        return channel;
    }

    /** A deadline of half a second leaves a cold JVM no time for connecting; without a connection the call tells why. */
    private static void awaitConnection(ManagedChannel channel) throws InterruptedException {
        var done = new CountDownLatch(1);
        watch(channel, done);
        done.await(CONNECT_LIMIT_S, TimeUnit.SECONDS);
    }

    private static void watch(ManagedChannel channel, CountDownLatch done) {
        ConnectivityState state = channel.getState(true);
        if (state == ConnectivityState.READY || state == ConnectivityState.TRANSIENT_FAILURE) {
            done.countDown();
        } else {
            channel.notifyWhenStateChanged(state, () -> watch(channel, done));
        }
    }

    private static Map<String, ?> serviceConfig() throws IOException {
        try (InputStream file = Mesh.class.getResourceAsStream("/service_config.json")) {
            var reader = new InputStreamReader(file, StandardCharsets.UTF_8);
            return new Gson().fromJson(reader, new TypeToken<Map<String, Object>>() {});
        }
    }

    /** The order may be live. Only the same key may be submitted again. */
    static final class OutcomeUnknown extends Exception {
        OutcomeUnknown(String key) {
            super(key + " may be live; repeat only this key");
        }
    }

    /**
     * Sends an order once and says what became of it. An answer that is lost is read back, never replaced by another
     * submit.
     *
     * @throws StatusException nothing was sent
     * @throws OutcomeUnknown nobody can tell yet
     */
    static Order submit(OrderServiceBlockingV2Stub orders, NewOrder order)
            throws StatusException, OutcomeUnknown, InterruptedException {
        String key = order.getClientOrderId();
        SubmitOrderResponse answer;
        try {
            answer = orders.submitOrder(SubmitOrderRequest.newBuilder().setOrder(order).build());
        } catch (StatusException error) {
            if (provedNotSent(error)) {
                throw error;
            }
            System.out.printf("submit: %s answer lost, %s; reading back%n", key, error.getStatus().getCode());
            return readBack(orders, order);
        }
        if (List.of(SubmitOutcome.SUBMIT_OUTCOME_UNKNOWN, SubmitOutcome.SUBMIT_OUTCOME_PENDING)
                .contains(answer.getOutcome())) {
            System.out.printf("submit: %s not settled yet; reading back%n", key);
            return readBack(orders, order);
        }
        return answer.getOrder();
    }

    private static Order readBack(OrderServiceBlockingV2Stub orders, NewOrder order)
            throws OutcomeUnknown, InterruptedException {
        String key = order.getClientOrderId();
        var reference = OrderReference.newBuilder()
                .setAccountId(order.getAccountId())
                .setVenue(order.getVenue())
                .setClientOrderId(key);
        var request = GetOrderRequest.newBuilder().setReference(reference).build();
        for (int attempt = 0; attempt < READ_BACK_ATTEMPTS; attempt++) {
            try {
                Order found = orders.getOrder(request).getOrder();
                if (!found.getUncertain() && found.getStatus() != OrderStatus.ORDER_STATUS_PENDING_NEW) {
                    return found;
                }
            } catch (StatusException error) {
                // NOT_FOUND proves nothing: the submit may still be on its way.
                System.out.printf("submit: %s read back failed, %s%n", key, error.getStatus().getCode());
            }
            Thread.sleep(READ_BACK_PAUSE_MS);
        }
        throw new OutcomeUnknown(key);
    }

    /** Whether the mesh itself says that no order was attempted; anything else counts as unknown. */
    private static boolean provedNotSent(StatusException error) {
        var status = StatusProto.fromThrowable(error);
        try {
            for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    var info = detail.unpack(ErrorInfo.class);
                    return info.getDomain().equals("venuemesh") && "no".equals(info.getMetadataMap().get("sent"));
                }
            }
        } catch (InvalidProtocolBufferException unreadable) {
            return false;
        }
        return false;
    }
}

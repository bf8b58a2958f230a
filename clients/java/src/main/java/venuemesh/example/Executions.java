package venuemesh.example;

import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.util.concurrent.TimeUnit;
import venuemesh.v1.OrderOuterClass.ExecutionReport;
import venuemesh.v1.OrderServiceGrpc.OrderServiceBlockingV2Stub;
import venuemesh.v1.OrderServiceOuterClass.StreamExecutionReportsRequest;
import venuemesh.v1.OrderServiceOuterClass.StreamExecutionReportsResponse;
import venuemesh.v1.Stream.ResumeOutcome;
import venuemesh.v1.Stream.StreamOptions;
import venuemesh.v1.Stream.StreamPosition;

/** Execution reports of an account at a venue, each once and in order, over any number of connections. */
final class Executions {
    /** An example ends; a real follower sets no deadline. */
    static final long STREAM_LIMIT_S = 60;

    private static final int RECONNECT_ATTEMPTS = 5;
    private static final long RECONNECT_PAUSE_MS = 200;

    private final OrderServiceBlockingV2Stub orders;
    private final String account;
    private final String venue;
    private BlockingClientCall<?, StreamExecutionReportsResponse> call;
    /** Of the last message handled, or null. Written to a file, it resumes after a crash too. */
    private StreamPosition position;

    Executions(OrderServiceBlockingV2Stub orders, String account, String venue) {
        this.orders = orders;
        this.account = account;
        this.venue = venue;
    }

    long sequence() {
        return position == null ? 0 : position.getSequence();
    }

    /** Takes the orders that are open now, without reporting them. */
    void start() throws StatusException, InterruptedException {
        while (!next().hasSnapshotEnd()) {}
        System.out.printf("executions: following from sequence %d%n", sequence());
    }

    /**
     * Waits for the next report.
     *
     * @throws StatusException the stream is refused, or cannot be had again
     */
    ExecutionReport nextReport() throws StatusException, InterruptedException {
        while (true) {
            var message = next();
            if (message.hasEvent() && message.getEvent().hasExecutionReport()) {
                return message.getEvent().getExecutionReport();
            }
        }
    }

    /** Drops the connection; the next report is the one behind what was handled. */
    void cut() {
        drop("cut");
        System.out.printf("executions: cut at sequence %d%n", sequence());
    }

    private StreamExecutionReportsResponse next() throws StatusException, InterruptedException {
        int failures = 0;
        while (true) {
            String why = "the server closed the stream";
            try {
                var message = open().read();
                if (message != null && !message.hasClosing() && follows(message)) {
                    return message;
                }
            } catch (StatusException error) {
                failures++;
                if (error.getStatus().getCode() != Status.Code.UNAVAILABLE || failures > RECONNECT_ATTEMPTS) {
                    throw error;
                }
                why = error.getStatus().getCode().name();
            }
            System.out.printf("executions: lost at sequence %d, %s%n", sequence(), why);
            drop("lost");
            Thread.sleep(RECONNECT_PAUSE_MS);
        }
    }

    private BlockingClientCall<?, StreamExecutionReportsResponse> open() {
        if (call == null) {
            var options = StreamOptions.newBuilder();
            if (position != null) {
                options.setResumeAfter(position);
            }
            var request = StreamExecutionReportsRequest.newBuilder()
                    .setAccountId(account)
                    .setVenue(venue)
                    .setOptions(options)
                    .build();
            call = orders.withDeadlineAfter(STREAM_LIMIT_S, TimeUnit.SECONDS).streamExecutionReports(request);
        }
        return call;
    }

    private void drop(String why) {
        if (call != null) {
            call.cancel(why, null);
        }
        call = null;
    }

    /** Takes the message's place in the numbering; false when one before it is missing. */
    private boolean follows(StreamExecutionReportsResponse message) {
        var header = message.getHeader();
        if (message.hasAcknowledgement()) {
            if (message.getAcknowledgement().getResumeOutcome() == ResumeOutcome.RESUME_OUTCOME_RESUMED) {
                System.out.printf("executions: resumed after sequence %d%n", sequence());
            } else if (position != null) {
                // A snapshot follows. What ended in between is not in it: read ListOrders and ListFills.
                System.out.printf("executions: not resumed, %s%n", message.getAcknowledgement().getResumeNote());
                position = null;
            }
        } else if (header.getSequence() != 0) {
            long previous = header.getPreviousSequence();
            if (position != null && previous != 0 && previous != sequence()) {
                return false;
            }
            position = StreamPosition.newBuilder()
                    .setEpoch(header.getEpoch())
                    .setSequence(header.getSequence())
                    .build();
        }
        return true;
    }
}

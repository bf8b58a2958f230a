package venuemesh.example;

import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.StatusException;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import venuemesh.example.Mesh.OutcomeUnknown;
import venuemesh.example.Mesh.Settings;
import venuemesh.v1.MarketDataServiceGrpc;
import venuemesh.v1.MarketDataServiceOuterClass.GetOrderBookRequest;
import venuemesh.v1.OrderOuterClass.NewOrder;
import venuemesh.v1.OrderOuterClass.Order;
import venuemesh.v1.OrderOuterClass.OrderStatus;
import venuemesh.v1.OrderOuterClass.OrderType;
import venuemesh.v1.OrderOuterClass.Side;
import venuemesh.v1.OrderOuterClass.TimeInForce;
import venuemesh.v1.OrderServiceGrpc;
import venuemesh.v1.OrderServiceGrpc.OrderServiceBlockingV2Stub;
import venuemesh.v1.OrderServiceOuterClass.CancelAllOrdersRequest;
import venuemesh.v1.PortfolioServiceGrpc;
import venuemesh.v1.PortfolioServiceOuterClass.StreamPortfolioRequest;
import venuemesh.v1.PortfolioServiceOuterClass.StreamPortfolioResponse;
import venuemesh.v1.RoutingServiceGrpc;
import venuemesh.v1.RoutingServiceOuterClass.PlanRouteRequest;
import venuemesh.v1.VenueOuterClass.Environment;
import venuemesh.v1.VenueServiceGrpc;
import venuemesh.v1.VenueServiceOuterClass.GetVenueRequest;

/**
 * A client of the mesh from end to end: submit, follow over a cut, cancel all, watch the portfolio, route.
 *
 * <p>Needs a running mesh and no other part of this repository; settings are in docs/clients.md.
 */
public final class Example {
    private final Settings settings;
    private final Channel router;
    private final Channel aggregator;
    private final OrderServiceBlockingV2Stub orders;

    private Example(Settings settings, Channel router, Channel aggregator) {
        this.settings = settings;
        this.router = router;
        this.aggregator = aggregator;
        this.orders = OrderServiceGrpc.newBlockingV2Stub(router);
    }

    /** The mesh answered something the story does not go on from. */
    private static final class ExampleFailed extends Exception {
        ExampleFailed(String message) {
            super(message);
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        var settings = Settings.fromEnvironment();
        ManagedChannel router = null;
        ManagedChannel aggregator = null;
        int exitCode = 0;
        try {
            router = Mesh.connect(settings.router(), settings);
            aggregator = Mesh.connect(settings.aggregator(), settings);
            new Example(settings, router, aggregator).run();
        } catch (StatusException | OutcomeUnknown | ExampleFailed | IOException error) {
            System.err.println("failed: " + error.getMessage());
            exitCode = 1;
        } finally {
            for (ManagedChannel channel : new ManagedChannel[] {router, aggregator}) {
                if (channel != null) {
                    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
                }
            }
        }
        System.exit(exitCode);
    }

    private void run() throws StatusException, OutcomeUnknown, ExampleFailed, InterruptedException {
        String key = "java-" + System.currentTimeMillis();
        refuseRealMoney();
        restAndCancel(key + "-rest");
        watchARoutedOrder(key + "-route");
        System.out.println("done");
    }

    /** An example must not trade where it costs something. */
    private void refuseRealMoney() throws StatusException, ExampleFailed {
        var request = GetVenueRequest.newBuilder().setVenue(settings.venue()).build();
        var venue = VenueServiceGrpc.newBlockingV2Stub(router).getVenue(request).getVenue();
        var environment = venue.getEnvironment();
        System.out.printf("venue: %s is %s%n", venue.getVenue(), environment.name().replace("ENVIRONMENT_", ""));
        require(
                environment == Environment.ENVIRONMENT_SIMULATOR || environment == Environment.ENVIRONMENT_TESTNET,
                venue.getVenue() + " is not a simulator or test network");
    }

    /** Submits an order that rests, and cancels it while nobody listens; the stream tells it all the same. */
    private void restAndCancel(String key) throws StatusException, OutcomeUnknown, ExampleFailed, InterruptedException {
        var executions = new Executions(orders, settings.account(), settings.venue());
        executions.start();
        var resting = buy(key)
                .setVenue(settings.venue())
                .setOrderType(OrderType.ORDER_TYPE_LIMIT)
                .setTimeInForce(TimeInForce.TIME_IN_FORCE_GTC)
                .setPrice(farFromMarket())
                .build();
        var order = Mesh.submit(orders, resting);
        System.out.printf("submit: %s is %s%n", key, status(order));
        require(order.getWorking(), key + " does not rest: " + order.getReject().getMessage());
        see(executions, key, Order::getWorking);

        executions.cut();
        cancelAll();
        see(executions, key, Order::getTerminal);
        executions.cut();
    }

    /** What all orders here have in common. */
    private NewOrder.Builder buy(String key) {
        return NewOrder.newBuilder()
                .setAccountId(settings.account())
                .setClientOrderId(key)
                .setSymbol(settings.symbol())
                .setSide(Side.SIDE_BUY)
                .setQuantity(settings.quantity());
    }

    /** A price a fifth below the best bid, as a whole number: those are on every venue's tick. */
    private String farFromMarket() throws StatusException, ExampleFailed {
        var request = GetOrderBookRequest.newBuilder()
                .setVenue(settings.venue())
                .setSymbol(settings.symbol())
                .setDepth(1)
                .build();
        var book = MarketDataServiceGrpc.newBlockingV2Stub(router).getOrderBook(request).getOrderBook();
        require(book.getBidsCount() > 0, "the book has no bid");
        BigInteger bid = new BigDecimal(book.getBids(0).getPrice()).toBigInteger();
        return bid.multiply(BigInteger.valueOf(4)).divide(BigInteger.valueOf(5)).toString();
    }

    /** Follows the stream until it tells this of the order. */
    private static void see(Executions executions, String key, Predicate<Order> wanted)
            throws StatusException, InterruptedException {
        while (true) {
            var order = executions.nextReport().getOrder();
            if (order.getTerms().getClientOrderId().equals(key) && wanted.test(order)) {
                System.out.printf(
                        "executions: %s is %s at sequence %d%n", key, status(order), executions.sequence());
                return;
            }
        }
    }

    /** Cancels everything of the account everywhere; what could not be reached is named and stays. */
    private void cancelAll() throws StatusException, ExampleFailed {
        var request = CancelAllOrdersRequest.newBuilder().setAccountId(settings.account()).build();
        var answer = orders.cancelAllOrders(request);
        System.out.printf(
                "cancel all: %d orders, %d venues not reached%n", answer.getResultsCount(), answer.getUnreachedCount());
        require(answer.getUnreachedCount() == 0, "not reached: " + String.join(", ", answer.getUnreachedList()));
    }

    /** Lets the router choose the venue and sees the fill arrive in the portfolio. */
    private void watchARoutedOrder(String key)
            throws StatusException, OutcomeUnknown, ExampleFailed, InterruptedException {
        var changes = PortfolioServiceGrpc.newBlockingV2Stub(aggregator)
                .withDeadlineAfter(Executions.STREAM_LIMIT_S, TimeUnit.SECONDS)
                .streamPortfolio(StreamPortfolioRequest.getDefaultInstance());
        StreamPortfolioResponse message;
        while ((message = changes.read()) != null) {
            long sequence = message.getHeader().getSequence();
            if (message.hasSnapshot()) {
                System.out.printf(
                        "portfolio: snapshot of %d accounts at sequence %d%n",
                        message.getSnapshot().getAccountsCount(), sequence);
                placeRouted(key);
            }
            var fill = message.getDelta().getEvent().getExecutionReport().getFill();
            if (fill.getClientOrderId().equals(key)) {
                System.out.printf("portfolio: fill of %s at sequence %d%n", fill.getQuantity(), sequence);
                changes.cancel("seen", null);
                return;
            }
        }
        throw new ExampleFailed("the portfolio stream ended before the fill");
    }

    /** A market order that names no venue: the router chooses, and the rules of a submit are the same. */
    private void placeRouted(String key) throws StatusException, OutcomeUnknown, ExampleFailed, InterruptedException {
        var order = buy(key)
                .setOrderType(OrderType.ORDER_TYPE_MARKET)
                .setTimeInForce(TimeInForce.TIME_IN_FORCE_IOC)
                .build();
        var request = PlanRouteRequest.newBuilder().setOrder(order).build();
        var plan = RoutingServiceGrpc.newBlockingV2Stub(router).planRoute(request).getPlan();
        require(plan.getLegsCount() > 0, "the plan has no leg");
        System.out.printf(
                "route: %s is the best of %d venues now%n", plan.getLegs(0).getVenue(), plan.getCandidatesCount());
        var placed = Mesh.submit(orders, order);
        System.out.printf("submit: %s is %s at %s%n", key, status(placed), placed.getTerms().getVenue());
        require(
                placed.getStatus() != OrderStatus.ORDER_STATUS_REJECTED, key + ": " + placed.getReject().getMessage());
    }

    /** {@code NEW}, or the number of a status that is newer than these stubs. */
    private static String status(Order order) {
        return order.getStatus() == OrderStatus.UNRECOGNIZED
                ? Integer.toString(order.getStatusValue())
                : order.getStatus().name().replace("ORDER_STATUS_", "");
    }

    private static void require(boolean holds, String otherwise) throws ExampleFailed {
        if (!holds) {
            throw new ExampleFailed(otherwise);
        }
    }
}

// A client of the mesh from end to end: submit, follow over a cut, cancel all, watch the portfolio, route.
//
// Needs a running mesh and no other part of this repository; settings are in docs/clients.md.
package main

import (
	"context"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	pb "example.com/venuemesh/gen/venuemesh/v1"
)

// An example ends; a real follower has no such limit.
const limit = 60 * time.Second

func main() {
	if err := run(SettingsFromEnvironment()); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
}

func run(settings Settings) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	router, err := Connect(settings.Router, settings)
	if err != nil {
		return err
	}
	defer router.Close()
	aggregator, err := Connect(settings.Aggregator, settings)
	if err != nil {
		return err
	}
	defer aggregator.Close()

	key := fmt.Sprintf("go-%d", time.Now().UnixMilli())
	if err := refuseRealMoney(ctx, settings, pb.NewVenueServiceClient(router)); err != nil {
		return err
	}
	market := pb.NewMarketDataServiceClient(router)
	if err := restAndCancel(ctx, settings, pb.NewOrderServiceClient(router), market, key+"-rest"); err != nil {
		return err
	}
	place := func(ctx context.Context, key string) error {
		return placeRouted(ctx, settings, pb.NewRoutingServiceClient(router), pb.NewOrderServiceClient(router), key)
	}
	if err := watchPortfolio(ctx, pb.NewPortfolioServiceClient(aggregator), place, key+"-route"); err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

// refuseRealMoney stops an example from trading where it costs something.
func refuseRealMoney(ctx context.Context, settings Settings, venues pb.VenueServiceClient) error {
	answer, err := venues.GetVenue(ctx, &pb.GetVenueRequest{Venue: settings.Venue})
	if err != nil {
		return err
	}
	environment := answer.Venue.Environment
	fmt.Printf("venue: %s is %s\n", answer.Venue.Venue, strings.TrimPrefix(environment.String(), "ENVIRONMENT_"))
	if environment != pb.Environment_ENVIRONMENT_SIMULATOR && environment != pb.Environment_ENVIRONMENT_TESTNET {
		return fmt.Errorf("%s is not a simulator or test network", answer.Venue.Venue)
	}
	return nil
}

// restAndCancel submits an order that rests, and cancels it while nobody listens; the stream tells it all the same.
func restAndCancel(
	ctx context.Context, settings Settings, orders pb.OrderServiceClient, market pb.MarketDataServiceClient, key string,
) error {
	executions, err := FollowExecutions(ctx, orders, settings.Account, settings.Venue)
	if err != nil {
		return err
	}
	price, err := farFromMarket(ctx, settings, market)
	if err != nil {
		return err
	}
	resting := buy(settings, key)
	resting.Venue = settings.Venue
	resting.OrderType = pb.OrderType_ORDER_TYPE_LIMIT
	resting.TimeInForce = pb.TimeInForce_TIME_IN_FORCE_GTC
	resting.Price = &price
	order, err := Submit(ctx, orders, resting)
	if err != nil {
		return err
	}
	fmt.Printf("submit: %s is %s\n", key, statusName(order))
	if !order.Working {
		return fmt.Errorf("%s does not rest: %s", key, order.GetReject().GetMessage())
	}
	if err := see(ctx, executions, key, (*pb.Order).GetWorking); err != nil {
		return err
	}
	executions.Cut()
	if err := cancelAll(ctx, settings, orders); err != nil {
		return err
	}
	if err := see(ctx, executions, key, (*pb.Order).GetTerminal); err != nil {
		return err
	}
	executions.Cut()
	return nil
}

// buy is what all orders here have in common.
func buy(settings Settings, key string) *pb.NewOrder {
	return &pb.NewOrder{
		AccountId:     settings.Account,
		ClientOrderId: key,
		Symbol:        settings.Symbol,
		Side:          pb.Side_SIDE_BUY,
		Quantity:      settings.Quantity,
	}
}

// farFromMarket is a price a fifth below the best bid, as a whole number: those are on every venue's tick.
func farFromMarket(ctx context.Context, settings Settings, market pb.MarketDataServiceClient) (string, error) {
	request := &pb.GetOrderBookRequest{Venue: settings.Venue, Symbol: settings.Symbol, Depth: 1}
	answer, err := market.GetOrderBook(ctx, request)
	if err != nil {
		return "", err
	}
	if len(answer.OrderBook.Bids) == 0 {
		return "", fmt.Errorf("the book of %s has no bid", settings.Symbol)
	}
	whole, _, _ := strings.Cut(answer.OrderBook.Bids[0].Price, ".")
	bid, ok := new(big.Int).SetString(whole, 10)
	if !ok {
		return "", fmt.Errorf("the bid %q is no decimal", answer.OrderBook.Bids[0].Price)
	}
	return bid.Div(bid.Mul(bid, big.NewInt(4)), big.NewInt(5)).String(), nil
}

// see follows the stream until it tells this of the order.
func see(ctx context.Context, executions *Executions, key string, wanted func(*pb.Order) bool) error {
	for {
		report, err := executions.NextReport(ctx)
		if err != nil {
			return err
		}
		if report.Order.GetTerms().GetClientOrderId() == key && wanted(report.Order) {
			sequence := executions.Position.GetSequence()
			fmt.Printf("executions: %s is %s at sequence %d\n", key, statusName(report.Order), sequence)
			return nil
		}
	}
}

// cancelAll cancels everything of the account everywhere; what could not be reached is named and stays.
func cancelAll(ctx context.Context, settings Settings, orders pb.OrderServiceClient) error {
	answer, err := orders.CancelAllOrders(ctx, &pb.CancelAllOrdersRequest{AccountId: settings.Account})
	if err != nil {
		return err
	}
	fmt.Printf("cancel all: %d orders, %d venues not reached\n", len(answer.Results), len(answer.Unreached))
	if len(answer.Unreached) > 0 {
		return fmt.Errorf("not reached: %s", strings.Join(answer.Unreached, ", "))
	}
	return nil
}

// watchPortfolio places an order once it has the portfolio's snapshot, and follows the changes until its fill arrives.
func watchPortfolio(
	ctx context.Context, portfolio pb.PortfolioServiceClient, place func(context.Context, string) error, key string,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := portfolio.StreamPortfolio(ctx, &pb.StreamPortfolioRequest{})
	if err != nil {
		return err
	}
	for {
		message, err := changes.Recv()
		if err != nil {
			return err
		}
		sequence := message.GetHeader().GetSequence()
		if snapshot := message.GetSnapshot(); snapshot != nil {
			fmt.Printf("portfolio: snapshot of %d accounts at sequence %d\n", len(snapshot.Accounts), sequence)
			if err := place(ctx, key); err != nil {
				return err
			}
		}
		fill := message.GetDelta().GetEvent().GetExecutionReport().GetFill()
		if fill.GetClientOrderId() == key {
			fmt.Printf("portfolio: fill of %s at sequence %d\n", fill.Quantity, sequence)
			return nil
		}
	}
}

// placeRouted sends a market order that names no venue: the router chooses, and the rules of a submit are the same.
func placeRouted(
	ctx context.Context, settings Settings, routing pb.RoutingServiceClient, orders pb.OrderServiceClient, key string,
) error {
	order := buy(settings, key)
	order.OrderType = pb.OrderType_ORDER_TYPE_MARKET
	order.TimeInForce = pb.TimeInForce_TIME_IN_FORCE_IOC
	answer, err := routing.PlanRoute(ctx, &pb.PlanRouteRequest{Order: order})
	if err != nil {
		return err
	}
	plan := answer.Plan
	fmt.Printf("route: %s is the best of %d venues now\n", plan.Legs[0].Venue, len(plan.Candidates))
	placed, err := Submit(ctx, orders, order)
	if err != nil {
		return err
	}
	fmt.Printf("submit: %s is %s at %s\n", key, statusName(placed), placed.Terms.Venue)
	if placed.Status == pb.OrderStatus_ORDER_STATUS_REJECTED {
		return fmt.Errorf("%s: %s", key, placed.GetReject().GetMessage())
	}
	return nil
}

// statusName is NEW, or the number of a status that is newer than these stubs.
func statusName(order *pb.Order) string {
	return strings.TrimPrefix(order.Status.String(), "ORDER_STATUS_")
}

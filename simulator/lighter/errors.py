"""Refusals: the codes and texts the venue publishes. Pure."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Codes this front answers. Names say what the text says."""

    INVALID_PARAM = 20001
    INVALID_CURSOR = 20009
    INVALID_AUTH = 20013
    ACCOUNT_NOT_FOUND = 21100
    INVALID_NONCE = 21104
    BATCH_NONCE = 21105
    INVALID_TO_ACCOUNT = 21106
    API_KEY_NOT_FOUND = 21109
    INVALID_API_KEY_INDEX = 21110
    INVALID_MARGIN_FRACTION = 21113
    WITHDRAW_TOO_SMALL = 21116
    TRANSFER_TOO_SMALL = 21118
    INVALID_SIGNATURE = 21120
    BATCH_KEYS = 21121
    INVALID_ACCOUNT_TYPE = 21123
    INVALID_ROUTE = 21124
    TOO_MANY_SUB_ACCOUNTS = 21129
    MARGIN_MODE_CHANGE = 21132
    INVALID_PUBLIC_KEY = 21136
    SAME_TRADING_MODE = 21142
    NOT_APPROVED = 21149
    NOT_ENOUGH_COLLATERAL = 21301
    NOT_ENOUGH_BALANCE = 21304
    TX_NOT_FOUND = 21500
    INVALID_TX_INFO = 21501
    BAD_L1_SIGNATURE = 21504
    UNSUPPORTED_TX = 21505
    TOO_MANY_PENDING = 21506
    BELOW_INITIAL = 21508
    BATCH_LENGTHS = 21513
    BATCH_TOO_LONG = 21514
    INVALID_MARKET = 21602
    MARKET_STATUS = 21605
    NO_POSITION = 21614
    MARGIN_DIRECTION = 21615
    ORDER_TYPE_FOR_MARKET = 21618
    INVALID_ORDER_INDEX = 21700
    INVALID_BASE_AMOUNT = 21701
    INVALID_PRICE = 21702
    INVALID_IS_ASK = 21703
    INVALID_ORDER_TYPE = 21704
    INVALID_TIME_IN_FORCE = 21705
    INVALID_AMOUNTS = 21706
    ORDER_INACTIVE = 21709
    INVALID_EXPIRY = 21711
    CANCEL_ALL_TIF = 21713
    CANCEL_ALL_TIME = 21714
    ORDER_NOT_ACTIVE = 21715
    TOO_MANY_ORDERS = 21717
    TOO_MANY_PENDING_ORDERS = 21719
    INVALID_CLIENT_INDEX = 21727
    CLIENT_INDEX_EXISTS = 21728
    INVALID_TRIGGER = 21729
    REDUCE_ONLY_INCREASES = 21732
    ACCIDENTAL_PRICE = 21733
    TOO_FAR_FROM_MARK = 21734
    REDUCE_ONLY_DIRECTION = 21738
    NOT_ENOUGH_MARGIN = 21739
    REDUCE_ONLY_MODE = 21740
    GROUPING_TYPE = 21741
    GROUP_SIZE = 21742
    INVALID_ORDER_INFO = 21743
    INVALID_ASSET = 21801
    INVALID_TIMESTAMPS = 22400
    INVALID_TIMESTAMP = 22401
    INVALID_RESOLUTION = 22402
    TOO_MANY_REQUESTS = 23000
    TOO_MANY_SUBSCRIPTIONS = 23001
    NOT_FOUND = 29404
    INTERNAL = 29500
    INVALID_JSON = 30000
    INVALID_TYPE = 30001
    NOT_SUBSCRIBED = 30002
    ALREADY_SUBSCRIBED = 30003
    INVALID_CHANNEL = 30005
    INVALID_DATA = 30007
    TOO_MANY_MESSAGES = 30009
    TOO_MANY_INFLIGHT = 30010
    TIER_SAME = 62003
    TIER_INVALID = 62002
    TIER_POSITIONS = 62004
    TIER_ORDERS = 62005


TEXTS: dict[int, str] = {
    Code.INVALID_PARAM: "invalid param",
    Code.INVALID_CURSOR: "invalid cursor",
    Code.INVALID_AUTH: "invalid auth",
    Code.ACCOUNT_NOT_FOUND: "account not found",
    Code.INVALID_NONCE: "invalid nonce",
    Code.BATCH_NONCE: "batch transaction nonce is not increasing",
    Code.INVALID_TO_ACCOUNT: "invalid ToAccount",
    Code.API_KEY_NOT_FOUND: "api key not found",
    Code.INVALID_API_KEY_INDEX: "invalid api key index",
    Code.INVALID_MARGIN_FRACTION: "invalid initial margin fraction",
    Code.WITHDRAW_TOO_SMALL: "withdrawal amount is too small",
    Code.TRANSFER_TOO_SMALL: "transfer amount is too small",
    Code.INVALID_SIGNATURE: "invalid signature",
    Code.BATCH_KEYS: "all transactions in the batch must have use same account and apikey",
    Code.INVALID_ACCOUNT_TYPE: "invalid account type",
    Code.INVALID_ROUTE: "invalid route type",
    Code.TOO_MANY_SUB_ACCOUNTS: "too many sub accounts",
    Code.MARGIN_MODE_CHANGE: "margin mode change on a market with position or open order is not allowed",
    Code.INVALID_PUBLIC_KEY: "invalid PublicKey, update the sdk to the latest version",
    Code.SAME_TRADING_MODE: "account is already in that mode",
    Code.NOT_APPROVED: "integrator is not approved",
    Code.NOT_ENOUGH_COLLATERAL: "not enough collateral",
    Code.NOT_ENOUGH_BALANCE: "not enough asset balance",
    Code.TX_NOT_FOUND: "transaction not found",
    Code.INVALID_TX_INFO: "invalid tx info",
    Code.BAD_L1_SIGNATURE: "fail to l1 signature",
    Code.UNSUPPORTED_TX: "unsupported tx type",
    Code.TOO_MANY_PENDING: "too many pending txs. Please try again later",
    Code.BELOW_INITIAL: "account is below initial margin, can't execute transaction",
    Code.BATCH_LENGTHS: "TxInfos and TxTypes should have the same length",
    Code.BATCH_TOO_LONG: "maximum 50 transactions allowed per batch",
    Code.INVALID_MARKET: "invalid market index",
    Code.MARKET_STATUS: "invalid market status",
    Code.NO_POSITION: "no position found",
    Code.MARGIN_DIRECTION: "invalid update margin direction",
    Code.ORDER_TYPE_FOR_MARKET: "invalid order type for market",
    Code.INVALID_ORDER_INDEX: "invalid order index",
    Code.INVALID_BASE_AMOUNT: "invalid base amount",
    Code.INVALID_PRICE: "invalid price",
    Code.INVALID_IS_ASK: "invalid isAsk",
    Code.INVALID_ORDER_TYPE: "invalid OrderType",
    Code.INVALID_TIME_IN_FORCE: "invalid OrderTimeInForce",
    Code.INVALID_AMOUNTS: "invalid order base or quote amount",
    Code.ORDER_INACTIVE: "order is inactive",
    Code.INVALID_EXPIRY: "invalid expiry",
    Code.CANCEL_ALL_TIF: "invalid cancel all time in force",
    Code.CANCEL_ALL_TIME: "invalid cancel all time",
    Code.ORDER_NOT_ACTIVE: "given order is not an active order",
    Code.TOO_MANY_ORDERS: "maximum active limit order count reached",
    Code.TOO_MANY_PENDING_ORDERS: "maximum pending order count reached",
    Code.INVALID_CLIENT_INDEX: "invalid client order index",
    Code.CLIENT_INDEX_EXISTS: "client order index already exists",
    Code.INVALID_TRIGGER: "invalid order trigger price",
    Code.REDUCE_ONLY_INCREASES: "reduce only increases position",
    Code.ACCIDENTAL_PRICE: "order price flagged as an accidental price",
    Code.TOO_FAR_FROM_MARK: "limit order price is too far from the mark price",
    Code.REDUCE_ONLY_DIRECTION: "invalid reduce only direction",
    Code.NOT_ENOUGH_MARGIN: "not enough margin to create the order",
    Code.REDUCE_ONLY_MODE: "invalid reduce only mode",
    Code.GROUPING_TYPE: "invalid grouping type",
    Code.GROUP_SIZE: "invalid order group size",
    Code.INVALID_ORDER_INFO: "invalid order info",
    Code.INVALID_ASSET: "invalid asset index",
    Code.INVALID_TIMESTAMPS: "invalid timestamps: end_timestamp must be greater than start_timestamp",
    Code.INVALID_TIMESTAMP: "invalid timestamp: timestamp must be greater than 0 and less than year 2286",
    Code.INVALID_RESOLUTION: "invalid resolution: resolution unsupported",
    Code.TOO_MANY_REQUESTS: "Too Many Requests!",
    Code.TOO_MANY_SUBSCRIPTIONS: "Too Many Subscriptions!",
    Code.NOT_FOUND: "not found",
    Code.INTERNAL: "internal server error",
    Code.INVALID_JSON: "Invalid Json",
    Code.INVALID_TYPE: "Invalid Type",
    Code.NOT_SUBSCRIBED: "Not Subscribed to",
    Code.ALREADY_SUBSCRIBED: "Already Subscribed to",
    Code.INVALID_CHANNEL: "Invalid Channel",
    Code.INVALID_DATA: "Invalid Data",
    Code.TOO_MANY_MESSAGES: "Too Many Websocket Messages!",
    Code.TOO_MANY_INFLIGHT: "Too Many Inflight Messages!",
    Code.TIER_SAME: "account already part of requested tier",
    Code.TIER_INVALID: "invalid tier",
    Code.TIER_POSITIONS: "account has open positions",
    Code.TIER_ORDERS: "account has open orders",
}


class Refused(Exception):
    """The venue says no.

    Args:
        code: the venue's.
        text: what it says; by default the published text of the code.
        status: HTTP status.
    """

    def __init__(self, code: int, text: str = "", *, status: int = 400) -> None:
        self.code = int(code)
        self.message = text or TEXTS.get(code, "")
        self.status = status
        super().__init__(self.message)

    @property
    def body(self) -> dict[str, int | str]:
        """What the answer holds."""
        return {"code": self.code, "message": self.message}


def bad_param(detail: str) -> Refused:
    """20001, as the venue words it."""
    return Refused(Code.INVALID_PARAM, f"{TEXTS[Code.INVALID_PARAM]} : {detail}")

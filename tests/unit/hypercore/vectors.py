"""Public signature vectors of the official client's own tests, and connection ids, for test keys.

Source: venue reference section 4.5. The keys are the ones printed in those tests; they hold nothing.
"""

from __future__ import annotations

from typing import Any

from hypercore.signing import Network

K1 = "0x" + "0123456789" * 6 + "0123"
K1_ADDRESS = "0x14791697260e4c9a71f18484c9f997b308e59325"
K2 = "0x822e9959e022b78423eb653a62ea0020cd283e71a2a8133a6ff2aeffaf373cff"
K2_ADDRESS = "0xe5ca49fb3bd9a581f0d1ef9cb5d7177da08bf901"

M, T = Network.MAINNET, Network.TESTNET


def order(
    asset: int,
    price: str,
    size: str,
    tif: str = "Gtc",
    *,
    kind: dict[str, Any] | None = None,
    cloid: str | None = None,
) -> dict[str, Any]:
    """A one-order action in wire key order, spelled as given."""
    row: dict[str, Any] = {
        "a": asset,
        "b": True,
        "p": price,
        "s": size,
        "r": False,
        "t": kind or {"limit": {"tif": tif}},
    }
    if cloid is not None:
        row["c"] = cloid
    return {"type": "order", "orders": [row], "grouping": "na"}


def _payment(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "destination": "0x5e9ee1089755c3435139848e47e6635505d5a13a",
        "amount": "1",
        "time": 1687816341423,
        "signatureChainId": "0x66eee",
        "hyperliquidChain": "Testnet",
    }


_DUMMY = {"type": "dummy", "num": 100000000000}
_STOP = {"trigger": {"isMarket": True, "triggerPx": "103", "tpsl": "sl"}}

ACTIONS: dict[str, dict[str, Any]] = {
    "dummy": _DUMMY,
    "dummy_vault": _DUMMY,
    "order_gtc": order(1, "100", "100"),
    "order_cloid": order(1, "100", "100", cloid="0x00000000000000000000000000000001"),
    "order_trigger": order(1, "100", "100", kind=_STOP),
    "create_sub_account": {"type": "createSubAccount", "name": "example"},
    "sub_account_transfer": {
        "type": "subAccountTransfer",
        "subAccountUser": "0x1d9470d4b963f552e6f671a81619d395877bf409",
        "isDeposit": True,
        "usd": 10,
    },
    "schedule_cancel_unset": {"type": "scheduleCancel"},
    "schedule_cancel": {"type": "scheduleCancel", "time": 123456789},
    "usd_send": _payment("usdSend"),
    "withdraw3": _payment("withdraw3"),
}

VAULTS = {"dummy_vault": "0x1719884eb866cb12b2287399b15f7db5e7d775ea"}
NONCES = {"usd_send": 1687816341423, "withdraw3": 1687816341423}

# name, network, r, s, v; signed with K1
SIGNATURES: list[tuple[str, Network, int, int, int]] = [
    (
        "dummy",
        M,
        0x53749D5B30552AEB2FCA34B530185976545BB22D0B3CE6F62E31BE961A59298,
        0x755C40BA9BF05223521753995ABB2F73AB3229BE8EC921F350CB447E384D8ED8,
        27,
    ),
    (
        "dummy",
        T,
        0x542AF61EF1F429707E3C76C5293C80D01F74EF853E34B76EFFFCB57E574F9510,
        0x17B8B32F086E8CDEDE991F1E2C529F5DD5297CBE8128500E00CBAF766204A613,
        28,
    ),
    (
        "dummy_vault",
        M,
        0x3C548DB75E479F8012ACF3000CA3A6B05606BC2EC0C29C50C515066A326239,
        0x4D402BE7396CE74FBBA3795769CDA45AEC00DC3125A984F2A9F23177B190DA2C,
        28,
    ),
    (
        "dummy_vault",
        T,
        0xE281D2FB5C6E25CA01601F878E4D69C965BB598B88FAC58E475DD1F5E56C362B,
        0x7DDAD27E9A238D045C035BC606349D075D5C5CD00A6CD1DA23AB5C39D4EF0F60,
        27,
    ),
    (
        "order_gtc",
        M,
        0xD65369825A9DF5D80099E513CCE430311D7D26DDF477F5B3A33D2806B100D78E,
        0x2B54116FF64054968AA237C20CA9FF68000F977C93289157748A3162B6EA940E,
        28,
    ),
    (
        "order_gtc",
        T,
        0x82B2BA28E76B3D761093AADED1B1CDAD4960B3AF30212B343FB2E6CDFA4E3D54,
        0x6B53878FC99D26047F4D7E8C90EB98955A109F44209163F52D8DC4278CBBD9F5,
        27,
    ),
    (
        "order_cloid",
        M,
        0x41AE18E8239A56CACBC5DAD94D45D0B747E5DA11AD564077FCAC71277A946E3,
        0x3C61F667E747404FE7EEA8F90AB0E76CC12CE60270438B2058324681A00116DA,
        27,
    ),
    (
        "order_cloid",
        T,
        0xEBA0664BED2676FC4E5A743BF89E5C7501AA6D870BDB9446E122C9466C5CD16D,
        0x7F3E74825C9114BC59086F1EEBEA2928C190FDFBFDE144827CB02B85BBE90988,
        28,
    ),
    (
        "order_trigger",
        M,
        0x98343F2B5AE8E26BB2587DAAD3863BC70D8792B09AF1841B6FDD530A2065A3F9,
        0x6B5BB6BB0633B710AA22B721DD9DEE6D083646A5F8E581A20B545BE6C1FEB405,
        27,
    ),
    (
        "order_trigger",
        T,
        0x971C554D917C44E0E1B6CC45D8F9404F32172A9D3B3566262347D0302896A2E4,
        0x206257B104788F80450F8E786C329DAA589AA0B32BA96948201AE556D5637EAC,
        28,
    ),
    (
        "create_sub_account",
        M,
        0x51096FE3239421D16B671E192F574AE24AE14329099B6DB28E479B86CDD6CAA7,
        0xB71F7D293AF92D3772572AFB8B102D167A7CEF7473388286BC01F52A5C5B423,
        27,
    ),
    (
        "create_sub_account",
        T,
        0xA699E3ED5C2B89628C746D3298B5DC1CCA604694C2C855DA8BB8250EC8014A5B,
        0x53F1B8153A301C72ECC655B1C315D64E1DCEA3EE58921FD7507E35818FCC1584,
        28,
    ),
    (
        "sub_account_transfer",
        M,
        0x43592D7C6C7D816ECE2E206F174BE61249D651944932B13343F4D13F306AE602,
        0x71A926CB5C9A7C01C3359EC4C4C34C16FF8107D610994D4DE0E6430E5CC0F4C9,
        28,
    ),
    (
        "sub_account_transfer",
        T,
        0xE26574013395AD55EE2F4E0575310F003C5BB3351B5425482E2969FA51543927,
        0xEFB08999196366871F919FD0E138B3A7F30EE33E678DF7CFAF203E25F0A4278,
        28,
    ),
    (
        "schedule_cancel_unset",
        M,
        0x6CDFB286702F5917E76CD9B3B8BF678FCC49AEC194C02A73E6D4F16891195DF9,
        0x6557AC307FA05D25B8D61F21FB8A938E703B3D9BF575F6717BA21EC61261B2A0,
        27,
    ),
    (
        "schedule_cancel_unset",
        T,
        0xC75BB195C3F6A4E06B7D395ACC20BBB224F6D23CCFF7C6A26D327304E6EFAEED,
        0x342F8EDE109A29F2C0723BD5EFB9E9100E3BBB493F8FB5164EE3D385908233DF,
        28,
    ),
    (
        "schedule_cancel",
        M,
        0x609CB20C737945D070716DCC696BA030E9976FCF5EDAD87AFA7D877493109D55,
        0x16C685D63B5C7A04512D73F183B3D7A00DA5406FF1F8AAD33F8AE2163BAB758B,
        28,
    ),
    (
        "schedule_cancel",
        T,
        0x4E4F2DBD4107C69783E251B7E1057D9F2B9D11CEE213441CCFA2BE63516DC5BC,
        0x706C656B23428C8BA356D68DB207E11139EDE1670481A9E01AE2DFCDB0E1A678,
        27,
    ),
    (
        "usd_send",
        T,
        0x637B37DD731507CDD24F46532CA8BA6EEC616952C56218BAEFF04144E4A77073,
        0x11A6A24900E6E314136D2592E2F8D502CD89B7C15B198E1BEE043C9589F9FAD7,
        27,
    ),
    (
        "withdraw3",
        T,
        0x8363524C799E90CE9BC41022F7C39B4E9BDBA786E5F9C72B20E43E1462C37CF9,
        0x58B1411A775938B83E29182E8EF74975F9054C8E97EBF5EC2DC8D51BFC893881,
        28,
    ),
]

# name, network, r, s, v; signed with K2: order a0 30000 x 0.1 Gtc at nonce 1234567890, and a payment
K2_ORDER = order(0, "30000", "0.1")
K2_PAYMENT = {
    "type": "usdSend",
    "destination": "0x1234567890123456789012345678901234567890",
    "amount": "1000",
    "time": 1234567890,
    "signatureChainId": "0x66eee",
    "hyperliquidChain": "Mainnet",
}
K2_SIGNATURES: list[tuple[dict[str, Any], Network, int, int, int]] = [
    (
        K2_ORDER,
        M,
        0x61078D8FFA3CB591DE045438A1AE2ED299B271891D1943A33901E7CFB3A31ED8,
        0x0E91DF4F9841641D3322DAD8D932874B74D7E082CDB5B533F804964A6963AEF9,
        28,
    ),
    (
        K2_ORDER,
        T,
        0x6B0283A894D87B996AD0182B86251CC80D27D61EF307449A2ED249A508DED1F7,
        0x6F884E79F4A0A10AF62DB831AF6F8E03B3F11D899EB49B352F836746EE9226DA,
        27,
    ),
    (
        K2_PAYMENT,
        M,
        0xF777C38EFE7C24CC71209526AE608F4E384D0586EDF578F0E97B4B9F7C7ADCC6,
        0x104A4A97C48AE77BF5BD777BDD45FE72D8F5FF29116B5FF64FD8CFE4EA610786,
        28,
    ),
]

_V = "0x1234567890123456789012345678901234567890"
_CANCEL = {"type": "cancel", "cancels": [{"a": 1, "o": 82382}]}

# action, nonce, vault, expires after, connection id
CONNECTION_IDS: list[tuple[dict[str, Any], int, str | None, int | None, str]] = [
    (
        order(4, "1670.1", "0.0147", "Ioc"),
        1677777606040,
        None,
        None,
        "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908",
    ),
    (
        K2_ORDER,
        1234567890,
        None,
        None,
        "25367e0dba84351148288c2233cd6130ed6cec5967ded0c0b7334f36f957cc90",
    ),
    (
        K2_ORDER,
        1234567890,
        _V,
        None,
        "214e2ea3270981b6fd18174216691e69f56872663139d396b10ded319cb4bb1e",
    ),
    (
        K2_ORDER,
        1234567890,
        None,
        1234567890,
        "c30b002ba3775e4c31c43c1dfd3291dfc85c6ae06c6b9f393991de86cad5fac7",
    ),
    (
        K2_ORDER,
        1234567890,
        _V,
        1234567890,
        "2d62412aa0fc57441b5189841d81554a6a9680bf07204e1454983a9ca44f0744",
    ),
    (
        order(1, "2000.0", "3.5", "Ioc"),
        1583838,
        None,
        None,
        "5983a9453b8d32668daefa9310e1a81bc1f4d7da50a9ad8869a4011d12068ea0",
    ),
    (
        _CANCEL,
        1583838,
        None,
        None,
        "a53262329d1e221a88ff73e5ce330e0e47fb646091cae7020c34c346e592b77e",
    ),
]

"""Made once with the signer library of lighter-sdk 1.1.8 and the throw-away key of `support`, on chain 304."""

from __future__ import annotations

PUBLIC_KEY = "0bffeddc10a375a3eb700aa08cbaed76f8b973e49a174bf7206e0ed6ca5a215dc318258371287a3d"

ORDER_HASH = "9735290ffc4342cb1120588a07c605e8223f60540c395aeb2c7653cf7ccef44f0390f9c07e0afe2d"
ORDER_INFO = (
    '{"AccountIndex":4242,"ApiKeyIndex":4,"MarketIndex":1,"ClientOrderIndex":7,"BaseAmount":250,"Price":1123450,"'
    'IsAsk":0,"Type":0,"TimeInForce":1,"ReduceOnly":0,"TriggerPrice":0,"OrderExpiry":1893456000000,"ExpiredAt":17'
    '95166592563,"Nonce":1790000000000,"Sig":"BtzLSzYE7rXc/gcHhyzrhreXvCMphRgfQpvA7IkPqLZHPa2QL5UDZpVaiDAIEokJrz4'
    'WdC+JjJOkL7pY3KedVGy0FGew8hUVX+PaA1e2/kY=","L2TxAttributes":{"4":1,"6":1}}'
)

GROUP_HASH = "eb9515b8ca997bc87d51f61da90a880f2a20d2284029f6e675283210b0ae17dca916c55d72f68e5e"
GROUP_INFO = (
    '{"AccountIndex":4242,"ApiKeyIndex":4,"GroupingType":2,"Orders":[{"MarketIndex":1,"ClientOrderIndex":0,"BaseA'
    'mount":2500,"Price":1100000,"IsAsk":1,"Type":5,"TimeInForce":1,"ReduceOnly":1,"TriggerPrice":1090000,"OrderE'
    'xpiry":1893456000000},{"MarketIndex":1,"ClientOrderIndex":0,"BaseAmount":2500,"Price":900000,"IsAsk":1,"Type'
    '":3,"TimeInForce":1,"ReduceOnly":1,"TriggerPrice":910000,"OrderExpiry":1893456000000}],"ExpiredAt":179516659'
    '2565,"Nonce":12,"Sig":"x4JeAzAXH/NF39ikEvtT8t6vKlD/Ua5SD1/s/MSCEmciwQwUu7xPQ3dU/U2NaUzg2LoQgFEf0YXId4WNQ6cRI'
    'oh2ko4bjBSwtTsFPJYP/yA=","L2TxAttributes":null}'
)

TOKEN = (
    "1900000000:4242:4:d2817a32c12508e484b15be0a3b52da738b6fe5247cc940c9fe111631171d39b9d9f4d0dda2a971ac4973d4ae2"
    "18e0d3a256daed1b5d91d2f03366790b4353fd1e2783f85dd3957e67eede018f382f11"
)

"""The long layouts: placeOrder, openOrder, completedOrder, reqMktData, server versions 157 to 178. Pure."""

from ibsim.layout import Layout, Part, Repeat, When, layout

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"


def _is_bag(text: str) -> bool:
    return text == "BAG"


def _given(text: str) -> bool:
    return text not in ("", "None")


def _filled_in(text: str) -> bool:
    return text != ""


def _positive(text: str) -> bool:
    try:
        return 0 < float(text or 0) < 1e300
    except ValueError:
        return False


def _yes(text: str) -> bool:
    return text == "1"


def _peg_bench(text: str) -> bool:
    return text in ("PEG BENCH", "PEGBENCH")


def _peg_best(text: str) -> bool:
    return text in ("PEG BEST", "PEGBEST")


def _peg_mid(text: str) -> bool:
    return text in ("PEG MID", "PEGMID")


def _infinite(text: str) -> bool:
    return text in ("Infinite", "inf")


CONTRACT = (
    "conId=0 symbol secType lastTradeDateOrContractMonth strike=0 right multiplier exchange primaryExchange currency"
    " localSymbol tradingClass"
)
"""A contract as requests carry it."""

SHORT_CONTRACT = (
    "conId=0 symbol secType lastTradeDateOrContractMonth strike=0 right multiplier exchange currency localSymbol"
    " tradingClass"
)
"""A contract as answers carry it."""

_LEG = "conId ratio action exchange openClose shortSaleSlot designatedLocation exemptCode"
_TAG = ("tag value",)

_SCALE: tuple[Part, ...] = (
    f"scaleInitLevelSize={UNSET_INTEGER} scaleSubsLevelSize={UNSET_INTEGER} scalePriceIncrement",
    When(
        "scalePriceIncrement",
        _positive,
        (
            "scalePriceAdjustValue scalePriceAdjustInterval scaleProfitOffset scaleAutoReset scaleInitPosition"
            " scaleInitFillQty scaleRandomPercent",
        ),
    ),
)
_DELTA_NEUTRAL_CONTRACT: tuple[Part, ...] = (
    "deltaNeutralContract=0",
    When(
        "deltaNeutralContract", _yes, ("deltaNeutralContractConId deltaNeutralContractDelta deltaNeutralContractPrice",)
    ),
)
_ALGO: tuple[Part, ...] = ("algoStrategy", When("algoStrategy", _given, (Repeat("algoParams", _TAG),)))
_PEG_BENCH: Part = When(
    "orderType",
    _peg_bench,
    ("referenceContractId isPeggedChangeAmountDecrease peggedChangeAmount referenceChangeAmount referenceExchangeId",),
)
_CONDITION_KINDS: dict[str, tuple[Part, ...]] = {
    "1": ("conjunction isMore price conId exchange triggerMethod",),
    "3": ("conjunction isMore time",),
    "4": ("conjunction isMore percent",),
    "5": ("conjunction secType exchange symbol",),
    "6": ("conjunction isMore volume conId exchange",),
    "7": ("conjunction isMore changePercent conId exchange",),
}


_CONDITIONS: Part = Repeat("conditions", ("kind",), _CONDITION_KINDS)

PLACE_ORDER: Layout = layout(
    "orderId",
    CONTRACT,
    "secIdType secId action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose origin orderRef"
    " transmit parentId blockOrder sweepToFill displaySize triggerMethod outsideRth hidden",
    When(
        "secType",
        _is_bag,
        (
            Repeat("comboLegs", (_LEG,)),
            Repeat("orderComboLegs", ("price",)),
            Repeat("smartComboRoutingParams", _TAG),
        ),
    ),
    "sharesAllocation discretionaryAmt goodAfterTime goodTillDate faGroup faMethod faPercentage faProfile@<177"
    " modelCode shortSaleSlot designatedLocation exemptCode=-1 ocaType rule80A settlingFirm allOrNone minQty"
    " percentOffset eTradeOnly firmQuoteOnly nbboPriceCap auctionStrategy startingPrice stockRefPrice delta"
    " stockRangeLower stockRangeUpper overridePercentageConstraints volatility volatilityType deltaNeutralOrderType"
    " deltaNeutralAuxPrice",
    When(
        "deltaNeutralOrderType",
        _filled_in,
        (
            "deltaNeutralConId deltaNeutralSettlingFirm deltaNeutralClearingAccount deltaNeutralClearingIntent"
            " deltaNeutralOpenClose deltaNeutralShortSale deltaNeutralShortSaleSlot deltaNeutralDesignatedLocation",
        ),
    ),
    "continuousUpdate referencePriceType trailStopPrice trailingPercent",
    *_SCALE,
    "scaleTable activeStartTime activeStopTime hedgeType",
    When("hedgeType", _given, ("hedgeParam",)),
    "optOutSmartRouting clearingAccount clearingIntent notHeld",
    *_DELTA_NEUTRAL_CONTRACT,
    *_ALGO,
    "algoId whatIf orderMiscOptions solicited randomizeSize randomizePrice",
    _PEG_BENCH,
    _CONDITIONS,
    When("conditions", bool, ("conditionsIgnoreRth conditionsCancelOrder",)),
    "adjustedOrderType triggerPrice lmtPriceOffset adjustedStopPrice adjustedStopLimitPrice adjustedTrailingAmount"
    " adjustableTrailingUnit extOperator softDollarTierName softDollarTierValue cashQty mifid2DecisionMaker"
    " mifid2DecisionAlgo mifid2ExecutionTrader mifid2ExecutionAlgo dontUseAutoPriceForHedge isOmsContainer"
    " discretionaryUpToLimitPrice usePriceMgmtAlgo duration@158 postToAts@160 autoCancelParent@162"
    " advancedErrorOverride@166 manualOrderTime@169",
)
"""placeOrder up to the fields of server version 170, which depend on exchange and order type: see PLACE_ORDER_170."""

PLACE_ORDER_170: Layout = layout(
    *PLACE_ORDER.parts,
    When("exchange", lambda text: text == "IBKRATS", ("minTradeQty",)),
    When(
        "orderType",
        _peg_best,
        (
            "minCompeteSize competeAgainstBestOffset",
            When("competeAgainstBestOffset", _infinite, ("midOffsetAtWhole midOffsetAtHalf",)),
        ),
    ),
    When("orderType", _peg_mid, ("midOffsetAtWhole midOffsetAtHalf",)),
)

MARKET_DATA: Layout = layout(
    "version reqId",
    CONTRACT,
    When("secType", _is_bag, (Repeat("comboLegs", ("conId ratio action exchange",)),)),
    *_DELTA_NEUTRAL_CONTRACT,
    "genericTickList snapshot regulatorySnapshot mktDataOptions",
)

_LEGS: tuple[Part, ...] = (
    "comboLegsDescrip",
    Repeat("comboLegs", (_LEG,)),
    Repeat("orderComboLegs", ("price",)),
    Repeat("smartComboRoutingParams", _TAG),
)
_MARGINS = " ".join(
    f"{name}={UNSET_DOUBLE}"
    for name in (
        *("initMarginBefore", "maintMarginBefore", "equityWithLoanBefore"),
        *("initMarginChange", "maintMarginChange", "equityWithLoanChange"),
        *("initMarginAfter", "maintMarginAfter", "equityWithLoanAfter"),
    )
)
_PEG_OFFSETS = (
    f"minTradeQty@170 minCompeteSize@170 competeAgainstBestOffset={UNSET_DOUBLE}@170 midOffsetAtWhole={UNSET_DOUBLE}@170"
    f" midOffsetAtHalf={UNSET_DOUBLE}@170"
)

OPEN_ORDER: Layout = layout(
    "orderId",
    SHORT_CONTRACT,
    "action totalQuantity orderType lmtPrice=0.0 auxPrice=0.0 tif=DAY ocaGroup account openClose origin=0 orderRef"
    " clientId permId outsideRth=0 hidden=0 discretionaryAmt=0 goodAfterTime sharesAllocation faGroup faMethod"
    " faPercentage faProfile@<177 modelCode goodTillDate rule80A percentOffset settlingFirm shortSaleSlot=0"
    " designatedLocation exemptCode=-1 auctionStrategy=0 startingPrice stockRefPrice delta stockRangeLower"
    f" stockRangeUpper displaySize={UNSET_INTEGER} blockOrder=0 sweepToFill=0 allOrNone=0 minQty ocaType=3 eTradeOnly=0"
    " firmQuoteOnly=0 nbboPriceCap parentId=0 triggerMethod=0 volatility volatilityType=0 deltaNeutralOrderType=None"
    " deltaNeutralAuxPrice",
    When(
        "deltaNeutralOrderType",
        _filled_in,
        (
            "deltaNeutralConId=0 deltaNeutralSettlingFirm deltaNeutralClearingAccount deltaNeutralClearingIntent"
            " deltaNeutralOpenClose=? deltaNeutralShortSale=0 deltaNeutralShortSaleSlot=0"
            " deltaNeutralDesignatedLocation",
        ),
    ),
    "continuousUpdate=0 referencePriceType=0 trailStopPrice trailingPercent basisPoints basisPointsType",
    *_LEGS,
    *_SCALE,
    "hedgeType",
    When("hedgeType", _given, ("hedgeParam",)),
    "optOutSmartRouting=0 clearingAccount clearingIntent=IB notHeld=0",
    *_DELTA_NEUTRAL_CONTRACT,
    *_ALGO,
    "solicited=0 whatIf=0 status",
    _MARGINS,
    "commission minCommission maxCommission commissionCurrency warningText randomizeSize=0 randomizePrice=0",
    _PEG_BENCH,
    _CONDITIONS,
    When("conditions", bool, ("conditionsIgnoreRth=0 conditionsCancelOrder=0",)),
    f"adjustedOrderType=None triggerPrice={UNSET_DOUBLE} adjustedTrailStopPrice={UNSET_DOUBLE}"
    f" lmtPriceOffset={UNSET_DOUBLE} adjustedStopPrice={UNSET_DOUBLE} adjustedStopLimitPrice={UNSET_DOUBLE}"
    f" adjustedTrailingAmount={UNSET_DOUBLE} adjustableTrailingUnit=0 softDollarTierName softDollarTierValue"
    f" softDollarTierDisplayName cashQty=0 dontUseAutoPriceForHedge=1 isOmsContainer=0"
    f" discretionaryUpToLimitPrice=0 usePriceMgmtAlgo=0 duration@158 postToAts@160"
    " autoCancelParent=0@162",
    _PEG_OFFSETS,
)

COMPLETED_ORDER: Layout = layout(
    SHORT_CONTRACT,
    "action totalQuantity orderType lmtPrice=0.0 auxPrice=0.0 tif=DAY ocaGroup account openClose origin=0 orderRef"
    " permId outsideRth=0 hidden=0 discretionaryAmt=0 goodAfterTime faGroup faMethod faPercentage faProfile@<177"
    " modelCode goodTillDate rule80A percentOffset settlingFirm shortSaleSlot=0 designatedLocation exemptCode=-1"
    f" startingPrice stockRefPrice delta stockRangeLower stockRangeUpper displaySize={UNSET_INTEGER} sweepToFill=0"
    " allOrNone=0 minQty ocaType=3 triggerMethod=0 volatility volatilityType=0 deltaNeutralOrderType=None"
    " deltaNeutralAuxPrice",
    When(
        "deltaNeutralOrderType",
        _filled_in,
        ("deltaNeutralConId=0 deltaNeutralShortSale=0 deltaNeutralShortSaleSlot=0 deltaNeutralDesignatedLocation",),
    ),
    "continuousUpdate=0 referencePriceType=0 trailStopPrice trailingPercent",
    *_LEGS,
    *_SCALE,
    "hedgeType",
    When("hedgeType", _given, ("hedgeParam",)),
    "clearingAccount clearingIntent=IB notHeld=0",
    *_DELTA_NEUTRAL_CONTRACT,
    *_ALGO,
    "solicited=0 status randomizeSize=0 randomizePrice=0",
    _PEG_BENCH,
    _CONDITIONS,
    When("conditions", bool, ("conditionsIgnoreRth=0 conditionsCancelOrder=0",)),
    f"adjustedTrailStopPrice={UNSET_DOUBLE} lmtPriceOffset={UNSET_DOUBLE} cashQty=0 dontUseAutoPriceForHedge=1"
    " isOmsContainer=0 autoCancelDate filledQuantity=0 refFuturesConId=0 autoCancelParent=0 shareholder"
    " imbalanceOnly=0 routeMarketableToBbo=0 parentPermId=9223372036854775807 completedTime completedStatus",
    _PEG_OFFSETS,
)

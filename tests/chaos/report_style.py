"""How the HTML report looks, on light and on dark."""

STYLE = """
:root{--ink:#1d2733;--soft:#5d6b7a;--line:#dfe5ec;--page:#f6f8fa;--card:#fff;--lane:#eef2f6;--a:#2f6fdb;--b:#0f9d8a;
--good:#1a7f4b;--goodbg:#e3f5ea;--bad:#c2293a;--badbg:#fdeaec;--asked:#7d8b9a;--taken:#b9cdf2;--silence:#f2b8be;
--process:#c2293a;--etcd:#8250c4;--postgres:#1f6fa8;--network:#c77700;--broker:#0b7a75;--clock:#8a6d3b;--operator:#59636e}
@media(prefers-color-scheme:dark){:root{--ink:#e4eaf1;--soft:#96a4b3;--line:#2d3743;--page:#12171d;--card:#1a2129;
--lane:#232c36;--a:#6ea0f5;--b:#3cc7b2;--good:#57c98a;--goodbg:#16301f;--bad:#f0717f;--badbg:#3a1a1f;--asked:#7d8b9a;
--taken:#2f4a7d;--silence:#6b2b34;--process:#f0717f;--etcd:#b48af0;--postgres:#5fb0e8;--network:#eaa640;--broker:#46c2bb;
--clock:#cfab6d;--operator:#a3afbb}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1160px;margin:0 auto;padding:28px 24px 64px}
header{border-radius:10px;padding:18px 24px;border-left:8px solid}
header.good{background:var(--goodbg);border-color:var(--good)}
header.bad{background:var(--badbg);border-color:var(--bad)}
.word{margin:0;font-size:30px;font-weight:700;line-height:1.2}
header.good .word{color:var(--good)}header.bad .word{color:var(--bad)}
.why{margin:4px 0 0;font-size:17px}
.about{color:var(--soft);margin:12px 0 20px}
h2{font-size:18px;margin:34px 0 10px}h3{margin:0 0 6px;font-size:16px}
a{color:inherit}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px;display:flex;
flex-direction:column}
.tile b{font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}.tile small{color:var(--soft)}
.strip{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px 6px}
svg{display:block;width:100%;height:auto;overflow:visible;font:11px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;color:var(--soft);font-size:13px;margin:0 0 8px}
.legend i,.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;vertical-align:-1px}
.legend i.asked{height:0;border-top:2px solid var(--asked);vertical-align:4px}
.legend i.quiet{border:1.5px dashed var(--soft)}
i.taken{background:var(--taken)}i.silence{background:var(--silence)}i.a{background:var(--a)}i.b{background:var(--b)}
i.k-process{background:var(--process)}i.k-etcd{background:var(--etcd)}i.k-postgres{background:var(--postgres)}
i.k-network{background:var(--network)}i.k-broker{background:var(--broker)}i.k-clock{background:var(--clock)}
i.k-operator{background:var(--operator)}
svg text{fill:var(--ink)}svg .name{fill:var(--soft)}svg .small{fill:var(--soft);font-size:10px}
svg .inside{fill:#fff;font-weight:600}
@media(prefers-color-scheme:dark){svg .inside{fill:#12171d}}
svg .taken{fill:var(--taken)}svg .asked{fill:none;stroke:var(--asked);stroke-width:1.2}
svg .silence{fill:var(--silence);opacity:.75}svg .lane{fill:var(--lane)}
svg .a{fill:var(--a)}svg .b{fill:var(--b)}svg .base,svg .tick{stroke:var(--line)}svg .tick{stroke-dasharray:2 3}
svg .epoch{stroke:var(--ink);stroke-width:1.2}
svg .fault{fill:var(--c);stroke:var(--c)}svg .quiet{fill:none;stroke-dasharray:2 2}
.k-process{--c:var(--process)}.k-etcd{--c:var(--etcd)}.k-postgres{--c:var(--postgres)}.k-network{--c:var(--network)}
.k-broker{--c:var(--broker)}.k-clock{--c:var(--clock)}.k-operator{--c:var(--operator)}
svg .verdict.good{fill:var(--good)}svg .verdict.bad{fill:var(--bad)}
table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line);border-radius:10px;
overflow:hidden;font-size:14px}
th,td{text-align:left;padding:5px 10px;border-top:1px solid var(--line)}thead th{border:0;color:var(--soft);font-weight:600}
.bars+small{color:var(--soft)}td:first-child,td:nth-child(2){white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bars{position:relative;height:11px;min-width:130px;background:var(--lane);border-radius:3px;overflow:hidden}
.bars i{position:absolute;left:0;top:0;bottom:0}.bars .most{background:var(--silence)}
.bars .p90{background:var(--asked)}.bars .p50{background:var(--ink)}
section.bad{background:var(--badbg);border-radius:10px;padding:12px 20px;margin-bottom:12px}
section.bad ul{margin:0 0 8px;padding-left:20px}
code{background:var(--lane);border-radius:4px;padding:1px 6px;font-size:13px;overflow-wrap:anywhere}
details{margin-bottom:14px}summary{cursor:pointer;padding:4px 0}summary small{color:var(--soft);font-size:13px;margin-left:8px}
b.good{color:var(--good)}b.bad{color:var(--bad)}.missed{color:var(--soft);font-size:13px;margin:4px 0 0 90px}
ul{padding-left:20px}
@media print{body{background:#fff}details{break-inside:avoid}}
"""

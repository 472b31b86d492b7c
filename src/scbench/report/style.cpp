// The style sheet. Series colours: Okabe and Ito's set, which people with any colour vision keep apart; lighter in the
// dark.
#include "scbench/report/report.h"

namespace tessera::scbench {

const char* const kStyle = R"css(
:root { --page:#fbfbf9; --panel:#ffffff; --ink:#1b1f24; --soft:#5a636e; --rule:#dcdfe3; --heat:0,114,178; --worse:213,94,0;
  --s0:#3b4046; --s1:#0072b2; --s2:#d55e00; --s3:#009e73; --s4:#b8609a; --s5:#b07900; --s6:#3a9fd8; --s7:#8a6d3b; }
@media (prefers-color-scheme: dark) {
  :root { --page:#14171b; --panel:#1b1f25; --ink:#e8eaed; --soft:#a2abb6; --rule:#343b44; --heat:74,163,217; --worse:232,131,58;
    --s0:#c9ced4; --s1:#4aa3d9; --s2:#f0843c; --s3:#2fc79b; --s4:#dd8fc0; --s5:#e6b23c; --s6:#8fd0f5; --s7:#c9a66b; } }
* { box-sizing:border-box; }
body { margin:0 auto; padding:2rem 1.5rem 4rem; max-width:76rem; background:var(--page); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
h1 { font-size:1.7rem; margin:0 0 .2rem; letter-spacing:-.01em; }
h2 { font-size:1.15rem; margin:2.6rem 0 .2rem; }
h3 { font-size:.95rem; margin:1.2rem 0 .4rem; }
p { margin:.2rem 0 .8rem; color:var(--soft); max-width:52rem; }
.scroll { overflow-x:auto; }
table { border-collapse:separate; border-spacing:2px; font-variant-numeric:tabular-nums; }
table.grid { width:100%; min-width:46rem; table-layout:fixed; } .grid th:first-child { width:15rem; }
th { font-weight:600; text-align:left; padding:.3rem .6rem; font-size:.86rem; }
thead th { color:var(--soft); font-weight:500; }
thead th.number, td.number { text-align:right; }
td { padding:.3rem .6rem; font-size:.92rem; border-radius:3px; vertical-align:top; }
td small { display:block; font-size:.74rem; opacity:.78; white-space:nowrap; }
td.none { color:var(--soft); }
td.all, th.all { border-left:2px solid var(--rule); }
tbody th { max-width:20rem; overflow-wrap:anywhere; }
.panels { display:grid; grid-template-columns:repeat(auto-fill,minmax(21rem,1fr)); gap:1rem; }
.panel { background:var(--panel); border:1px solid var(--rule); border-radius:6px; padding:.7rem .8rem; margin:0; }
.panel figcaption { font-size:.9rem; font-weight:600; margin-bottom:.3rem; }
.panel figcaption span { font-weight:400; color:var(--soft); }
svg { display:block; } .panel svg { width:100%; height:auto; }
svg text { fill:var(--ink); font-size:12px; }
svg text.soft { fill:var(--soft); font-size:11px; }
svg .middle { text-anchor:middle; } svg .end { text-anchor:end; }
svg .grid { stroke:var(--rule); stroke-width:1; }
svg .track { fill:var(--rule); opacity:.45; }
svg .faint { opacity:.5; }
svg polyline { fill:none; stroke-width:2; }
svg .band { opacity:.11; }
.legend { display:flex; flex-wrap:wrap; gap:.3rem 1.2rem; margin:.6rem 0 1rem; padding:0; list-style:none; font-size:.88rem; }
.legend li { display:flex; align-items:center; gap:.4rem; overflow-wrap:anywhere; }
details { margin:.6rem 0; } summary { cursor:pointer; }
pre, code, .text { font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; font-size:.82rem; }
pre { background:var(--panel); border:1px solid var(--rule); border-radius:6px; padding:.7rem .8rem; white-space:pre-wrap;
  overflow-wrap:anywhere; }
.text { white-space:pre-wrap; overflow-wrap:anywhere; max-width:26rem; }
.answers td { border-bottom:1px solid var(--rule); border-radius:0; }
.settings { display:grid; grid-template-columns:repeat(auto-fit,minmax(22rem,1fr)); gap:0 2rem; }
.settings th { color:var(--soft); font-weight:500; white-space:nowrap; } .settings td { overflow-wrap:anywhere; }
.notice { border-left:4px solid rgb(var(--worse)); padding:.3rem .8rem; background:var(--panel); color:var(--ink); }
.fill-0{fill:var(--s0)} .fill-1{fill:var(--s1)} .fill-2{fill:var(--s2)} .fill-3{fill:var(--s3)}
.fill-4{fill:var(--s4)} .fill-5{fill:var(--s5)} .fill-6{fill:var(--s6)} .fill-7{fill:var(--s7)}
.line-0{stroke:var(--s0)} .line-1{stroke:var(--s1)} .line-2{stroke:var(--s2)} .line-3{stroke:var(--s3)}
.line-4{stroke:var(--s4)} .line-5{stroke:var(--s5)} .line-6{stroke:var(--s6)} .line-7{stroke:var(--s7)}
@media print { body { max-width:none; } .panel { break-inside:avoid; } }
)css";

}  // namespace tessera::scbench

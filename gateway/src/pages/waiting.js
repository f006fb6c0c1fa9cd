(function(){
var d=document,c=JSON.parse(d.querySelector("meta[name=tidegate]").content),t=c.t,store=window.sessionStorage,key="tidegate-"+c.room+c.place,
timer,es,last=c.wait,mine=0,turned=0,asks=0,sound;
function q(i){return d.getElementById(i)}
function set(i,x){var e=q(i);if(e&&e.textContent!=x)e.textContent=x}
function show(i,on){var e=q(i);if(e)e.hidden=!on}
function put(p,o){return p.replace(/\{(\w+)\}/g,function(_,k){return o[k]})}
function num(n){return String(n).replace(/\B(?=(\d{3})+$)/g,t.group)}
function time(s){return s<90?put(t.s,{n:s}):s<7170?put(t.m,{n:Math.round(s/60)}):put(t.h,{n:Math.round(s/3600)})}
function keep(k,v){try{if(v==null)return store.getItem(key+k);store.setItem(key+k,v)}catch(e){}}
function news(m){m=m||"";if(q("message")&&q("message").textContent!=m){set("message",m);if(m)set("say",m)}show("news",m)}
function line(ahead,w,why){
set("ahead",num(ahead));set("span",w?put(t.between,{from:time(w[0]),to:time(w[1])}):t.unknown);
var first=+keep("n");if(!(first>=ahead)){first=ahead;keep("n",ahead)}
var tide=q("tide");if(tide&&first){tide.hidden=false;tide.firstChild.style.width=Math.round(100*(1-ahead/first))+"%"}
// Said when the wait has grown, until it is as short as before.
if(w&&last&&w[1]>last[1]*1.2+5)mine=last[1];
if(mine&&(!w||w[1]<=mine))mine=0;
var s=mine?t.rose+" "+(t.because[why]||""):"";set("because",s);show("because",s);
if(w)last=w}
function turn(left){
if(turned)return;turned=1;var end=Date.now()+left*1e3;
set("title",t.called);set("text",t.text);d.title="\u25cf "+t.called;show("wait",0);show("turn",1);show("extend",left>0);set("say",t.called);
if(sound)[0,.25].forEach(function(at){var o=sound.createOscillator(),g=sound.createGain(),n=sound.currentTime+at;o.frequency.value=at?880:660;o.connect(g);g.connect(sound.destination);g.gain.setValueAtTime(.2,n);g.gain.exponentialRampToValueAtTime(.001,n+.5);o.start(n);o.stop(n+.5)});
(function tick(){var s=Math.max(0,Math.round((end-Date.now())/1e3));set("left",s?put(t.left,{time:time(s)}):t.over);show("extend",s>0);if(s)setTimeout(tick,1e3)})();
if(q("extend"))q("extend").onsubmit=function(){keep("stay",1)};
if(!go())q("title").focus()}
// Who looks at the page goes in at once, and asks again when no seat was free; whoever looks away is called and has the time.
function go(){
if(!d.hasFocus()||keep("stay"))return 0;
var ago=Date.now()-keep("go");if(ago<5e3)return setTimeout(go,5e3-ago);
keep("go",Date.now());q("claim").submit();return 1}
function again(s){clearTimeout(timer);timer=setTimeout(poll,1e3*Math.max(1,s))}
function poll(){
fetch(c.status,{headers:{accept:"application/json"},credentials:"same-origin",cache:"no-store"}).then(function(r){
if(r.status==429)return again(+r.headers.get("retry-after")||5);
return r.json().then(function(s){
news(s.message);
if(s.state=="called")return turn(s.claim?s.claim.expires_in_s:0);
if(s.state!=c.state)return location.reload();
line(s.ahead,s.wait_s,s.because);
if(s.stock_percent!=null)set("stock",s.stock_percent+"\u00a0%");
if(!es)again(s.poll_after_s||5)})}).catch(function(){again(10)})}
function wait(f,n){var r=f.rate[c.lane],p=n*f.present+1,x=1.28*Math.sqrt(p);if(r<.001)return null;
return[Math.floor(Math.min(864e2,Math.max(0,p-x)/(r*(1+f.spread)))),Math.ceil(Math.min(864e2,(p+x)*(1+f.spread)/r+1))]}
function live(){
if(!window.EventSource||!c.events)return;
var s=new EventSource(c.events);
s.onopen=function(){es=s;clearTimeout(timer)};
s.onmessage=function(e){
var f=JSON.parse(e.data),n=c.place-f.frontier[c.lane];news(f.message);
// The stage of everybody: the page itself says it anew. The turn: whoever is called may ask at once.
if(f.stage!=c.stage||f.sale!=c.sale||(f.draw?f.draw.state:null)!==c.draw)return setTimeout(function(){location.reload()},Math.random()*3e3);
if(c.place==null)return;
// Once: a frame a second must not put it off for ever.
if(n<0){if(!asks){asks=1;setTimeout(function(){asks=0;poll()},Math.random()*2e3)}return}
line(n,wait(f,n),f.because)};
// The stream ended or there was no room for it: ask now and then instead.
s.onerror=function(){es=0;again(c.poll*(.5+Math.random()/2))}}
if(q("sound")&&window.AudioContext){show("sound",1);q("sound").querySelector("input").onchange=function(){sound=this.checked?new AudioContext:0}}
if(c.opens){var at=Date.now()+c.opens*1e3;setInterval(function(){set("opens",time(Math.max(0,Math.round((at-Date.now())/1e3))))},1e3)}
if(c.state=="called")turn(c.left);else{if(c.place!=null)line(c.ahead,c.wait,c.because);if(!c.work){live();again(c.poll)}}
})();

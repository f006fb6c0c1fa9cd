(function(){
var m=document.querySelector("main"),q=function(i){return document.getElementById(i)};
function set(i,t){var e=q(i);if(e.textContent!==t)e.textContent=t}
function span(w){if(!w)return"not known yet";var f=function(s){return s<90?s+" s":Math.round(s/60)+" min"};return f(w[0])+" to "+f(w[1])}
function show(s){
if(s.state!==m.dataset.state){location.reload();return false}
set("place",s.place===null?"none":"#"+(s.place+1));set("ahead",String(s.ahead));set("wait",span(s.wait_s));
q("message").hidden=!s.message;set("message",s.message||"");
return true}
function again(s){setTimeout(poll,1000*Math.max(1,s))}
function poll(){
fetch(m.dataset.status,{headers:{accept:"application/json"},credentials:"same-origin",cache:"no-store"})
.then(function(r){return r.json()}).then(function(s){if(show(s))again(s.poll_after_s||5)})
.catch(function(){again(10)})}
if(m.dataset.state==="called"&&document.visibilityState==="visible"&&!sessionStorage.getItem("tidegate-claimed")){
sessionStorage.setItem("tidegate-claimed","1");q("claim").submit()}
else{if(m.dataset.state!=="called")sessionStorage.removeItem("tidegate-claimed");again(+m.dataset.poll)}
})();

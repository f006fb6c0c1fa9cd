(()=>{
var d=document,c=JSON.parse(d.querySelector("meta[name=tidegate]").content),w=c.work,K=[],H=[],p=2,n=0,b=new Int32Array(64),m=[],i;
function frac(x){return(x-Math.floor(x))*4294967296|0}
for(;K.length<64;p++){for(i=2;i*i<=p&&p%i;)i++;if(i*i>p){if(H.length<8)H.push(frac(Math.sqrt(p)));K.push(frac(Math.cbrt(p)))}}
// "tidegate/1/work", the challenge, eight bytes of the number: one block, whose first ten words hold them.
var Y=[];
for(i=0;i<15;i++)Y.push("tidegate/1/work".charCodeAt(i));
for(i=0;i<32;i+=2)Y.push(parseInt(w.challenge.substr(i,2),16));
for(i=0;i<16;i++)m[i]=0;
for(i=0;i<31;i++)m[i>>2]|=Y[i]<<24-8*(i&3);
m[15]=39*8;
function r(x,s){return x>>>s|x<<32-s}
function first(hi,lo){
b.set(m);b[7]|=hi>>>24;b[8]=hi<<8|lo>>>24;b[9]=lo<<8|128;
for(var t=16;t<64;t++){var x=b[t-15],y=b[t-2];b[t]=b[t-16]+(r(x,7)^r(x,18)^x>>>3)+b[t-7]+(r(y,17)^r(y,19)^y>>>10)|0}
var A=H[0],B=H[1],C=H[2],D=H[3],E=H[4],F=H[5],G=H[6],I=H[7];
for(t=0;t<64;t++){
var u=I+(r(E,6)^r(E,11)^r(E,25))+(E&F^~E&G)+K[t]+b[t]|0,v=(r(A,2)^r(A,13)^r(A,22))+(A&B^A&C^B&C)|0;
I=G;G=F;F=E;E=D+u|0;D=C;C=B;B=A;A=u+v|0}
return A+H[0]|0}
function done(s){
var f=d.createElement("form");f.method="post";f.action=w.url;w.bits=99;
[["room",c.room],["proof",w.proof],[s?"slowly":"answer",n],["to",location.pathname+location.search]].forEach(v=>{var e=d.createElement("input");e.type="hidden";e.name=v[0];e.value=v[1];f.appendChild(e)});
d.body.appendChild(f);f.submit()}
function go(){
for(var end=Date.now()+40;Date.now()<end;)for(var k=0;k<500;k++,n++)if(Math.clz32(first(n/4294967296|0,n>>>0))>=w.bits)return done();
setTimeout(go,0)}
// What was tried stays tried when the page is loaded again. Once the list is closed there is nothing to work for; a
// challenge that takes too long is gone around.
var key="tidegate-work-"+w.challenge;
try{n=+sessionStorage[key]||0}catch(e){}
addEventListener("pagehide",()=>{try{sessionStorage[key]=n}catch(e){}});
setTimeout(()=>w.slowly?done(1):location.reload(),1e3*(w.left+1+Math.random()*5));
go()
})();

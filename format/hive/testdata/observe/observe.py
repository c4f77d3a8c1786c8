#!/usr/bin/env python3
"""Writes ../serde.jsonl: what the serde classes of Hive 3.1.3 and 4.0.1 make of the lines below and of random ones.

  HIVE3=dir HIVE4=dir python3 observe.py

The directories hold, from Maven: hive-exec and hive-hcatalog-core of the version; hadoop-client-api and hadoop-client-runtime 3.3.6, commons-logging,
slf4j-api, commons-codec, commons-collections, guava, failureaccess, and the compiled Observe.class."""
import base64, json, os, random, subprocess

LAZY = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
CSV = "org.apache.hadoop.hive.serde2.OpenCSVSerde"
HCAT = "org.apache.hive.hcatalog.data.JsonSerDe"
JSON = "org.apache.hadoop.hive.serde2.JsonSerDe"


def b64(s):
    return base64.b64encode(s if isinstance(s, bytes) else s.encode()).decode()


def run(groups, jars):
    """groups: (serde, [(column, type)], parameters, lines) each; a list of answers for each."""
    lines = []
    for serde, columns, parameters, texts in groups:
        t = ["T", serde, b64(",".join(c for c, _ in columns)), b64(":".join(t for _, t in columns))]
        for k, v in parameters.items():
            t += [b64(k), b64(v)]
        lines.append("\t".join(t))
        lines += ["L\t" + b64(x) for x in texts]
    opens = [f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in ("java.lang", "java.net", "java.util", "java.nio", "sun.nio.ch")]
    r = subprocess.run(["java", "-Xmx300m", *opens, "-cp", f"{jars}:{jars}/*", "Observe"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    answers = iter(r.stdout.splitlines())
    return [[next(answers) for _ in g[3]] for g in groups]


def L(t, lines, p={}):
    return (LAZY, [("a", t)], p, lines)


def M(cols, lines, p={}):
    return (LAZY, cols, p, lines)


def C(lines, p={}, n=3):
    return (CSV, [("abc"[i], "string") for i in range(n)], p, lines)


def J(cols, lines, p={}):
    return [(HCAT, cols, p, lines), (JSON, cols, p, lines)]


groups = []
groups += [L('int',['1','-1','+1',' 1','1 ','1.5','1.','.5','-.5','1e3','2147483648','-2147483648','','x','\\N','0x10','1_0','--1','1.x','١','\t1','1L','00012','-','+','.','1 2']),
L('tinyint',['127','128','-128','-129','1.9',' 5 ']),L('smallint',['32767','32768','1.']),
L('bigint',['9223372036854775807','9223372036854775808','-9223372036854775808','1.99',' 7','+7','','null','NULL','1e5','12L']),
L('boolean',['true','TRUE','True','false','t','f','1','0','',' true','yes','\\N']),L('boolean',['t','1','f','0','T','tr'],{'hive.lazysimple.extended_boolean_literal':'true'}),
L('double',['1','1.5','-1e3','NaN','nan','Infinity','-Infinity','Inf','1d','1.5f',' 1.5 ','0x1p3','','.5','5.','e5','1e','1e400','\\N','null','+1','1,5','1.D','N','12','xx','12x4']),
L('float',['1.1','3.4028236e38','1e-50','NaN','16777217',' 1','1d']),
L('decimal(5,2)',['1','1.005','1.015','-1.005','999.99','999.994','999.995','1000','1e2','1E-2',' 1.5 ','','x','+1','.5','5.','1.5d','0x1','--1','\\N','0.000','1e','123456789012345678901234567890123456789012','0.00000000000000000000000000000000000000000001','1e1000','-0']),
L('decimal(38,0)',['99999999999999999999999999999999999999','99999999999999999999999999999999999999.5','100000000000000000000000000000000000000']),
L('decimal(38,18)',['1.23456789012345678949','12345678901234567890.1234567890123456789']),
L('decimal',['1.5','2.5','0.5','9999999999.4','9999999999.5','-0.5']),
L('date',['2024-01-05','2024-1-5','2024-01-05 10:00:00','2024-02-30','2023-02-29','0001-01-01','9999-12-31','10000-01-01',' 2024-01-05 ','20240105','2024/01/05','','\\N','x','2024-13-01','-2024-01-01','24-01-01','2024-01-05x','1582-10-10','2024-01','2024-01-05T10:00:00','2024-001-05','NULL','+2024-01-01','0000-01-01']),
L('timestamp',['2024-01-05 10:11:12','2024-01-05 10:11:12.5','2024-01-05 10:11:12.123456789','2024-01-05 10:11:12.1234567891','2024-01-05','2024-01-05T10:11:12','2024-01-05T10:11:12Z','2024-01-05 10:11','2024-1-5 1:2:3','2024-01-05 25:00:00','',' 2024-01-05 10:11:12 ','NULL','\\N','1704448272','2024-02-30 00:00:00','1582-10-10 00:00:00','9999-12-31 23:59:59.999999999','10000-01-01 00:00:00','0001-01-01 00:00:00','2024-01-05 10:11:12.','2024-01-05 10:11:12+01:00','2024-01-05 10:11:60','2024-01-05 24:00:00','2024-01-05 10:11:12 UTC','2024-01-05 10:11:12.000','x','2024-01-05  10:11:12','2024-01-05 10','2024-01-05 10:11:12.123 ','2024-01-05 10:11:12x']),
L('string',['','a','\\N',' a ','\\\\N','é','null']),L('string',['','NULL','a'],{'serialization.null.format':''}),
L('varchar(3)',['abc','abcd','éàüx','ab ','  abcd','\\N','']),L('char(3)',['abc','abcd','ab ','a','  ','','\\N',' abcd']),
L('binary',['YWJj','YWJ','YW Jj','YW-_','!!','','\\N','YWJj=','abc=def=','=','a','é','YWJjZA==','YWJjZA',"YW\tJj"]),
]
groups += [
L('binary',['YWJj','YWJ','YW Jj','YW-_','!!','','\\N','YWJj=','abc=def=','=','a','é','YWJjZA==','YWJjZA',"YW\tJj",'YWJjZ','a=','ab','YWJjZA=','====','AB==CD==']),
L('date',['2024-01-051','2024-01-05-','2024-01-5x','2024-1-5 x','2024-01-05  x','2024-01-00','0000-00-00','2024-01-5','12024-01-05','-001-01-01','2024-01-05\t1','2024-01-05é','a2024-01-05','2024 -01-05','2024-1-05','2024--01-05','1-1-1','99999-01-01','2024-01-05 2024','+12024-01-05','2024-00-10']),
L('timestamp',['2024-01-05 1:2:3.4','2024-01-5 10:11:12','24-01-05 10:11:12','2024-01-05 10:11:1','12024-01-05 10:11:12','-2024-01-05 10:11:12','2024-001-05 10:11:12','2024-01-05\t10:11:12','2024-01-05t10:11:12','+12024-01-05 10:11:12','0000-01-01 00:00:00','2024-01-05 010:11:12','2024-01-05T1:2:3','2024-01-05 10:11:12,5','null','99999-01-01 00:00:00','2024-01-05 23:59:60']),
M([('a','int'),('b','string'),('c','int')],['1\x01x\x012','1\x01x','1','','1\x01x\x012\x01more','\x01\x01','\\N\x01\\N\x01\\N','1\x01x\x012x']),
M([('a','int'),('b','string')],['1,x,y','1,','1'],{'field.delim':',','serialization.last.column.takes.rest':'true'}),
M([('a','string'),('b','string')],['a,b','a\\,b,c','a\\\\,b','a\\','a,b\\','\\N,\\N','\\\\N,x','a\\nb,\\r','x,\\\\\\N'],{'field.delim':',','escape.delim':'\\'}),
M([('a','string'),('b','string')],['a\\nb,\\r','\\\\n,x'],{'field.delim':',','escape.delim':'\\','serialization.escape.crlf':'true'}),
M([('a','string'),('b','string')],['a\tb','a9b'],{'field.delim':'9'}),
M([('a','string'),('b','string')],['a|b','a||b'],{'field.delim':'||'}),
M([('a','string'),('b','string')],['a\x01b','a1b'],{'serialization.format':'1'}),
M([('a','string'),('b','string')],['a\tb','a9b'],{'serialization.format':'9'}),
M([('a','string'),('b','string')],['a\xc3b'.encode('latin1'),b'a\xff\xfe\x01b',b'\xc0\x80',b'\xed\xa0\x80'],{}),
M([('a','array<int>'),('b','map<string,int>'),('c','struct<x:int,y:string>')],['1\x022\x023\x01k\x031\x02l\x032\x017\x02z','\x01\x01','\\N\x01\\N\x01\\N','1\x02\\N\x02x\x01k\x02l\x03\x02\x03\x01','1','1\x01k\x031\x02k\x032\x01\x02','\x02\x01k\x031\x034\x017\x02a\x02b','1\x02\x01\\N\x031\x02m\x03\\N\x017']),
M([('a','array<string>')],['','\\N','\x02','a\x02','\\N\x02']),
M([('a','array<array<int>>')],['1\x032\x023','\x02','\\N\x021','\x03']),
M([('a','map<string,array<struct<p:int,q:map<int,string>>>>')],['k\x031\x055\x07v\x066\x07w\x042\x02l\x03','k\x03','k']),
M([('a','struct<s:struct<t:struct<u:int,v:string>,w:string>>')],['1\x04x\x03y','1\x04x\x02','']),
M([('a','array<string>'),('b','map<string,string>')],['a:b|k=v:l=w','a|k','|'],{'field.delim':'|','colelction.delim':':','mapkey.delim':'='}),
M([('a','array<string>'),('b','map<string,string>')],['a:b|k=v:l=w'],{'field.delim':'|','collection.delim':':','mapkey.delim':'='}),
M([('a','array<string>'),('b','map<string,string>')],['a\\:b:c|k\\=x=v:l=w\\|'],{'field.delim':'|','collection.delim':':','mapkey.delim':'=','colelction.delim':':','escape.delim':'\\'}),
M([('a','map<int,string>')],['x\x03a\x021\x03b\x021\x03c','\\N\x03a']),
M([('a','uniontype<int,string>')],['0\x021','1\x02x']),
M([('a','interval_year_month')],['1-2']),
M([('a','int'),('b','int')],['1 2'],{'field.delim':' '}),
M([('a','string'),('b','string')],['a~b'],{'field.delim':'126'}),M([('a','string'),('b','string')],[b'a\x80b',b'a\xc2\x80b','a\u20acb'],{'field.delim':'-128'}),M([('a','string'),('b','string')],[b'a\xfeb','a\u00feb'],{'field.delim':'\u00fe'}),
M([('a','timestamp'),('b','timestamp with local time zone')],['2024-01-05T10:11:12\x012024-01-05 10:11:12 UTC'],{'timestamp.formats':"yyyy"}),
M([('a','array<array<array<array<array<array<array<array<int>>>>>>>>')],['1'],{}),
M([('a','array<array<array<array<array<array<array<int>>>>>>>')],['1\x08\x07'],{}),
]
g=[
C(['a,b,c','"a","b","c"','"a,b",c','a','',',','a,,c','a,b,c,d',' a , b , c ','" a ",b','"a""b",c','"a\\"b",c','a\\,b,c','a"b"c,d','"a"b,c','"a,b','x,"a,b','"a','a\\','a\\n,b','"a\\\\",b','a,"",b','""','"""",x','a,b"','"a" ,b',' "a",b','a "b" c,d','\\"a,b','"a\\,b",c',"'a,b',c",'é,ü','"a"",b','a""b,c','"\\N",\\N','\t"a",b','"a"\t,b','a,"b"c"d",e']),
C(['a\tb\tc',"'a\tb'\tc",'"a"\tb','a\\\tb\tc',"'a''b'\tc","'a\\'b'\tc"],{'separatorChar':'\t','quoteChar':"'",'escapeChar':'\\'}),
C(['a;b','"a;b";c','a!;b;c','"a!"b";c','a!b;"!!"','"a\\"b";c'],{'separatorChar':';','escapeChar':'!'}),
C(['"a""b",c','"a\\"b",c','a\\b,c'],{'escapeChar':'"'}),
C(['a,b'],{'separatorChar':',','quoteChar':','}),C(['"a\\"b",c'],{'quoteChar':'"','escapeChar':"'"}),
C(['a\\tb'],{'separatorChar':'\\t'}),
(CSV,[('a','int'),('b','string')],{},['1,2','x,y']),

]
groups += g
g=[]
cols=[('a','int'),('b','string')]
g+=J(cols,['{"a":1,"b":"x"}','{"A":1,"B":"x"}','{"b":"x"}','{}','{"a":null,"b":null}','{"a":"1","b":2}','{"a":"x"}','{"a":1.5}','{"a":1e2}','{"a":2147483648}','{"a":true}','{"b":true}','{"b":1.50}','{"b":1e2}','{"b":[1,2]}','{"b":{"x": 1}}','{"a":[1]}','{"a":{"x":1}}','{"a":1,"a":2}','{"a":1,"A":2}','{"zz":{"a":[1]},"a":3}','','  ','null','[1]','{"a":1','{"a":1}x','{"a":1} {"a":2}','{a:1}',"{'a':1}",'{"a":01}','{"a":+1}','{"a":NaN}','{"b":"\\u00e9\\n"}','{"b":"é"}','{"a":""}','{"b":""}','{"a":" 1"}','x','{"a":1,}','"a"','{"b":12345678901234567890}','{"a":-0}','{"a":"\\N"}','{"a":1,"b":"x"}\t','{"b":"a\tb"}','{"a":"1.5"}','{"a":"2147483648"}','{"b":"\\ud83d\\ude00"}','{"b":"\\ud83d"}'])
g+=J([('a','tinyint')],['{"a":127}','{"a":128}','{"a":1.9}']); g+=J([('a','smallint')],['{"a":40000}'])
g+=J([('a','bigint')],['{"a":9223372036854775807}','{"a":9223372036854775808}','{"a":"5"}','{"a":1.9}'])
g+=J([('a','boolean')],['{"a":true}','{"a":"true"}','{"a":"TRUE"}','{"a":1}','{"a":0}','{"a":"x"}','{"a":"1"}'])
g+=J([('a','double')],['{"a":1}','{"a":1.5}','{"a":"1.5"}','{"a":1e400}','{"a":"NaN"}','{"a":NaN}','{"a":"x"}','{"a":true}'])
g+=J([('a','float')],['{"a":1.1}','{"a":1e39}','{"a":"1.1"}'])
g+=J([('a','decimal(5,2)')],['{"a":1}','{"a":1.005}','{"a":"1.5"}','{"a":1e2}','{"a":12345}','{"a":999.995}','{"a":"x"}','{"a":true}','{"a":1.1000}'])
g+=J([('a','date')],['{"a":"2024-01-05"}','{"a":"x"}','{"a":5}','{"a":"2024-01-05 10:00:00"}','{"a":"2024-1-5"}','{"a":"2024-02-30"}'])
g+=J([('a','timestamp')],['{"a":"2024-01-05 10:11:12.5"}','{"a":"2024-01-05T10:11:12Z"}','{"a":"2024-01-05T10:11:12"}','{"a":"2024-01-05"}','{"a":1704448272}','{"a":1704448272000}','{"a":"x"}','{"a":"2024-01-05T10:11:12.5+01:00"}','{"a":""}','{"a":"2024-1-5 1:2:3"}','{"a":1.5}','{"a":"1704448272"}','{"a":"2024-01-05 10:11"}'])
g+=J([('a','binary')],['{"a":"YWJj"}','{"a":"!!"}','{"a":"é"}','{"a":1}','{"a":""}'])
g+=J([('a','varchar(3)'),('b','char(3)')],['{"a":"abcd","b":"abcd"}','{"a":"éàüx","b":"a "}','{"a":12345,"b":true}'])
g+=J([('a','array<int>')],['{"a":[1,null,2]}','{"a":[]}','{"a":null}','{"a":1}','{"a":{}}','{"a":["1"]}','{"a":"[1]"}','{"a":[[1]]}'])
g+=J([('a','map<string,int>')],['{"a":{"x":1,"Y":null}}','{"a":{}}','{"a":[]}','{"a":1}','{"a":{"x":1,"x":2}}','{"a":{"x":"1"}}'])
g+=J([('a','map<int,string>'),('b','map<boolean,string>'),('c','map<date,string>')],['{"a":{"1":"x"}}','{"a":{"x":"y"}}','{"b":{"true":"x"}}','{"c":{"2024-01-05":"x"}}'])
g+=J([('a','struct<x:int,yz:string,n:struct<q:bigint>>')],['{"a":{"x":1,"YZ":"s","n":{"Q":5}}}','{"a":{}}','{"a":{"q":1}}','{"a":[1,"x"]}','{"a":1}','{"a":null}'])
g+=J([('a','array<struct<x:int,m:map<string,array<int>>>>')],['{"a":[{"x":1,"m":{"k":[1,2]}},null,{}]}'])
g+=J([('_col0','int'),('b','int')],['{"_col0":1,"_col1":2}','{"_col1":7}'])
g+=J([('a','uniontype<int,string>')],['{"a":{"0":1}}'])
g+=J(cols,['x','{"a":"x"}','{"a":1','{"a":1,"b":"q"}'],{'ignore.malformed.json':'true'})
g+=J(cols,['x','{"a":1'],{'hive.serde.json.ignore.malformed':'true'})
groups += g
groups += [
L('date',['1-01-01','124-01-01','-1-01-01','-124-01-01','-12024-01-01','2024-1-1','2024-01-0','2024-0-1','2024-12-31','2024-1','\t2024-01-05','2024-01-05\r',' \x002024-01-05','\u00a02024-01-05','2024-1-32','1900-02-29','2000-02-29','2024-01-05.5','2024-01-05:1','--2024-01-01','2024.01.01','2024- 1-01','2024-1 -01','2024-01- 5','0-01-01','00-01-01','0024-01-01','9999-12-31T','2024-11-5','2024-11-','2024--','-','--',' ']),
L('timestamp',['2024-1-5T10:11:12','2024-01-05T10:11:12.','2024-01-05T10:11:12.5','2024-01-05T10:11:12.123456789','2024-01-05T10:11','10000-01-01T00:00:00','+10000-01-01T00:00:00','24-01-05T10:11:12','-2024-01-05T10:11:12','1-01-01 00:00:00','124-01-05 10:11:12','2024-01-05 10:11:12.1234567','1000000000-01-01 00:00:00','9999999999-01-01 00:00:00','292278-01-01 00:00:00','\u00a02024-01-05 10:11:12','\t2024-01-05 10:11:12','2024-01-05 1:11:12.0000','2024-1-05 10:1:12','2024-01-05 :1:12','2024-13-05 10:11:12','2023-02-29 01:01:01','2024-01-05 10:60:12','2024-01-05T24:00:00','2024-01-05 10:11:12.5.5','2024-01-05 10:11:-2','-0001-01-01 00:00:00','00-01-01 00:00:00']),
L('decimal(20,3)',['\t1.5','1 .5','1.5\t','1.5\x00','+.5','-.5','.','-','+','e1','1e+2','1e-2','1E02','1e2.5','1e 2','00001.5','1..5','1.5.5','1e-100','1e19','9e16','99999999999999999.9995','1234567890123456789012345678901234567890e-25','0e500','0e-500','1e99999999999','0e99999999999','1e-99999999999','0.00000000000000000000000000000000000000000049','0x','1_0','١','+-1','1.5e','1.5e+','-1.0005','1e2147483648']),
L('double',['1e','0x1','0x1.8p1','0x1p','0X1P3D','1_0','+NaN','-NaN','NaNd','Infinityf','+Infinity','1.5F','1f1','\x001.5','1.5\x00','.','e','1.e5','.e5','1e+5','1e+','--1','+','1 5','1dd','0b1','0o7','1p3','infinity','INFINITY','1e-400','5.d','N1','null','nul1','n123','Nan1']),
L('int',['+.5','-.','+.','..5','1..','1.5.5','-1.9','+1.9','1.-5','2147483647.9','-2147483648.9','-2147483649','00000000000000000000001','-0','99999999999','1,5','0.','--.','...']),
L('array<int>',['1\x022','\\N\x02\\N','1.5\x02 2']),
L('bigint',['-9223372036854775809','9223372036854775807.5','-9223372036854775808.99','99999999999999999999','+.1']),
]

R = random.Random(7)
N = 40
def w(alpha,a,b): return "".join(R.choice(alpha) for _ in range(R.randint(a,b)))
def mut(s,alpha):
    s=list(s)
    for _ in range(R.choice([0,0,1,1,2])):
        i=R.randrange(len(s)+1)
        op=R.random()
        if op<.4 and i<len(s): s[i]=R.choice(alpha)
        elif op<.7: s.insert(i,R.choice(alpha))
        elif i<len(s): del s[i]
    return "".join(s)
def num():
    s=R.choice(["","-","+"])+w("0123456789",0,R.choice([1,3,20,40]))
    if R.random()<.6: s+="."+w("0123456789",0,R.choice([1,3,20,40]))
    if R.random()<.25: s+=R.choice("eE")+R.choice(["","-","+"])+str(R.randint(0,R.choice([3,12,45])))
    return s
def date(): return "%s%d-%s%d-%s%d"%(R.choice(["","","","-"]),R.choice([R.randint(1,9999),2024,0]),R.choice(["","0"]),R.randint(0,13),R.choice(["","0"]),R.randint(0,32))
def gdate(): return "%04d-%02d-%02d"%(R.randint(1,9999),R.randint(1,12),R.randint(1,28))
def ts(): return (date() if R.random()<.3 else gdate())+R.choice([" "," ","T"])+R.choice(["%d:%d:%d","%02d:%02d:%02d"])%(R.randint(0,24),R.randint(0,60),R.randint(0,60))+R.choice(["","",".","."+w("0123456789",1,6)])

for t in ['int','tinyint','bigint']: groups.append((LAZY,[('a',t)],{},[mut(num() if R.random()<.7 else num()[:12],"0123456789.-+eE x") for _ in range(N)]))
for t in ['double','float']: groups.append((LAZY,[('a',t)],{},[mut(num(),"0123456789.-+eEdDfFxXpP NaN\t_") for _ in range(N)]))
for t in ['decimal(5,2)','decimal(38,18)','decimal(38,0)','decimal(20,10)','decimal(38,38)']: groups.append((LAZY,[('a',t)],{},[mut(num(),"0123456789.-+eE x") for _ in range(N)]))
groups.append((LAZY,[('a','date')],{},[mut(date(),"0123456789- T:x") for _ in range(N)]))
groups.append((LAZY,[('a','timestamp')],{},[mut(ts(),"0123456789- T:.") for _ in range(2*N)]))
groups.append((LAZY,[('a','binary')],{},[w("abAZ09+/=-_ ",0,9) for _ in range(N)]))
groups.append((LAZY,[('a','char(3)'),('b','varchar(2)')],{},[w("ab é\x01",0,9) for _ in range(N//2)]))
CT=[('a','int'),('b','array<string>'),('c','map<string,int>'),('d','struct<x:int,y:map<int,array<string>>,z:string>'),('e','string')]
for p in [{},{'escape.delim':'\\'},{'serialization.last.column.takes.rest':'true','serialization.null.format':'N'},{'field.delim':',','collection.delim':';','mapkey.delim':':','escape.delim':'\\'}]:
    al="12aN\\\\\\N\x01\x01\x01\x01\x02\x02\x02\x03\x03\x04\x05\x06" if 'field.delim' not in p else "12aN\\\\,,,,;;::\x04\x05\x06nr"
    groups.append((LAZY,CT,p,[w(al,0,30) for _ in range(2*N)]))
for p in [{},{'separatorChar':'\t','quoteChar':"'",'escapeChar':'!'}]:
    al='ab ,,,"""\\\\é' if not p else "ab \t\t\t'''!!é"
    groups.append((CSV,[(c,'string') for c in 'abcd'],p,[w(al,0,16) for _ in range(2*N)]))

hive3, hive4 = run(groups, os.environ["HIVE3"]), run(groups, os.environ["HIVE4"])
kind = lambda s: s.split(" ")[0] + '"' if s.startswith(('"ERR', '"INIT')) else s
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "serde.jsonl"), "w") as out:
    for (serde, columns, parameters, texts), a, b in zip(groups, hive3, hive4):
        for t, x, y in zip(texts, a, b):
            raw = t if isinstance(t, bytes) else t.encode()
            if b"\n" not in raw and b"\r" not in raw:  # which end a line
                out.write(json.dumps({"serde": serde, "columns": columns, "parameters": parameters, "line": b64(raw), "hive3": kind(x), "hive4": kind(y)}) + "\n")

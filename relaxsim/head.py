"""The built-in head: a procedural label volume, a new subject for every seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaxsim.head_brain import brain_fields, intracranial
from relaxsim.head_shapes import ellipsoid, intersection, tube, union
from relaxsim.lattice import Lattice, evaluate, smooth_noise

LOWER, UPPER = np.array([-72.25, -126.25, -90.25]), np.array([108.75, 90.75, 90.75])
BRAIN_BOX = ((-75.0, 98.0), (-118.0, 88.0), (-80.0, 80.0))

@dataclass(frozen=True)
class Traits:
    scale: np.ndarray
    wavelength: float
    sulcal_depth: float
    meander: float
    ventricles: float
    ventricle_asymmetry: float

def draw_traits(rng):
    return Traits(
        scale=(rng.uniform(0.96,1.04)*rng.uniform(0.97,1.03,3)).astype(np.float32),
        wavelength=rng.uniform(22,24), sulcal_depth=rng.uniform(13,16),meander=0.25,
        ventricles=float(np.exp(rng.normal(0,0.25))), ventricle_asymmetry=float(rng.normal(0,0.12)))

def warped(lattice, warp_lattice, warp, scale):
    w=[lattice.axes()[k].ravel() for k in range(3)]
    W=[warp_lattice.weights(k,w[k]) for k in range(3)]
    return tuple((a+evaluate(f,W))/s for a,f,s in zip(lattice.axes(),warp,scale))

def skin_depth(p,hull):
    d=union(hull+14.3,ellipsoid(p,(0,33,-18),(66.5,56,39),2.2),12)
    d=union(d,ellipsoid(p,(0,-17,-43),(82.5,90.5,74.5),2.4),12)
    return union(d,ellipsoid(p,(0,77.5,-61.5),(12,11.5,21.5)),8)

def head_labels(seed: int, voxel_size: float = 1.0) -> np.ndarray:
    """Labels (Z, Y, X) of the built-in head."""
    import time; T=time.time()
    rng = np.random.default_rng([seed,0]); fine=np.random.default_rng([seed,1])
    traits=draw_traits(rng)
    shape = tuple(round(n / voxel_size) for n in (181, 217, 181))
    axes=[LOWER[k]+(np.arange(shape[k])+0.5)*voxel_size-0.25 for k in range(3)]
    outer=Lattice.covering([(a,b) for a,b in zip(LOWER,UPPER)],3.0)
    brain=Lattice.covering(BRAIN_BOX,1.5)
    warp_lattice=Lattice.covering([(a-9,b+9) for a,b in zip(LOWER,UPPER)],9.0)
    warp=[2.0*smooth_noise(rng,warp_lattice,60)+0.6*smooth_noise(rng,warp_lattice,22) for _ in range(3)]
    po=warped(outer,warp_lattice,warp,traits.scale)
    pb=warped(brain,warp_lattice,warp,traits.scale)
    print("warp",time.time()-T)
    hull_o=intracranial(po); skin=skin_depth(po,hull_o)
    W=[outer.weights(k,brain.axes()[k].ravel()) for k in range(3)]
    hull_b=evaluate(hull_o,W)
    print("hull",time.time()-T)
    b=brain_fields(pb,brain,hull_b,traits,rng)
    print("brain",time.time()-T)
    no=[smooth_noise(rng,outer,s) for s in (20,12,7,6)]
    wo=[outer.weights(k,axes[k]) for k in range(3)]
    wb=[brain.weights(k,axes[k]) for k in range(3)]
    box=[slice(*np.searchsorted(axes[k],BRAIN_BOX[k])) for k in range(3)]
    labels=np.zeros(shape,np.uint8)
    step=max(1,round(16/voxel_size))
    for z0 in range(0,shape[0],step):
        zs=slice(z0,min(z0+step,shape[0]))
        w=[wo[0][zs],wo[1],wo[2]]
        O=evaluate(skin,w); I=evaluate(hull_o,w)
        L=labels[zs]
        n=[evaluate(f,w) for f in no]
        white=fine.standard_normal(L.shape,dtype=np.float32)
        L[O>0]=6
        out=-I
        dura=np.maximum(1.0*(n[1]),0.0)
        T_=8+2*n[0]
        bone=(out<T_+dura)&(O>3)
        u=out-dura-T_
        h=np.abs(u-2.5-0.6*n[3])+0.4*np.abs(white)
        soft=(O>2.5)&~bone
        L[soft&(h<1.6)]=5;L[soft&(h<0.7)]=9;L[soft&(h<0.4)]=4
        L[bone]=np.where((out-dura)/T_+0.4*n[2]+0.1*white>0.45,11,7)[bone]
        L[(out<dura)&(O>2)]=10
        L[I>0]=1
        # brain
        zb=slice(max(z0,box[0].start),min(zs.stop,box[0].stop))
        if zb.stop<=zb.start: continue
        w=[wb[0][zb],wb[1][box[1]],wb[2][box[2]]]
        f={k:evaluate(v,w) for k,v in vars(b).items()}
        B=labels[zb,box[1],box[2]]
        sub=(slice(zb.start-z0,zb.stop-z0),box[1],box[2])
        wh=white[sub]; Ib=I[sub]
        m=np.abs(f["midline"])
        dm=m-0.6+3*np.maximum(f["core"],0)
        depth=intersection(f["cortex"],dm,1.0)
        ds=np.hypot(f["sulcus"],np.maximum(depth-f["reach"],0))
        d=intersection(depth,ds,2.0)+0.25*wh
        c0=0.5+0.5*f["gap"]
        inside=Ib>0
        t=3.0*f["ribbon"]
        gm=inside&(d>c0); B[gm]=2
        B[inside&(d>c0+t)]=3
        dc=f["cerebellum"]
        dd=intersection(dc,np.hypot(f["folium"],np.maximum(dc-12,0)),1.0)+0.25*wh
        B[(dc>0)]=1;B[dc>0.3]=np.where(dd>0.1,np.where(dd>2.4,3,2),1)[dc>0.3]
        B[f["stem"]>0.25*wh]=3
        B[f["callosum"]>0.15*wh]=3
        B[(f["nuclei"]>0.8*wh)&inside]=2
        B[(f["ventricles"]>0.25*wh)&inside]=1
    print("slabs",time.time()-T)
    return labels
